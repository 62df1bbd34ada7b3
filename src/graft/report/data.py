"""A page about data: figures with pictures, and rows token by token. One file, with nothing loaded from elsewhere."""

import io
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from graft.data.statistics import Statistics
from graft.data.view import Cell
from graft.staging import replace_file

_OURS, _LIMIT = "#4a7ebb", "#c0504d"
_BINS = 40


@dataclass(frozen=True)
class ShownRow:
    """A row to look at.

    Args:
        number: from 1.
        samples: the cells of each of its samples.
        fault: why it has none.
    """

    number: int
    source: str
    samples: Sequence[Sequence[Cell]]
    fault: str = ""

    def as_json(self) -> dict[str, Any]:
        shown = [[asdict(cell) for cell in cells] for cells in self.samples]
        return {"row": self.number, "at": self.source, "samples": shown, "fault": self.fault}

    def counts(self) -> str:
        """`203 tokens: 120 trained, 83 context`."""
        cells = [cell for sample in self.samples for cell in sample]
        fates = {fate: sum(c.tokens for c in cells if c.fate == fate) for fate in dict.fromkeys(c.fate for c in cells)}
        said = ", ".join(f"{count} {fate}" for fate, count in sorted(fates.items(), key=lambda item: -item[1]))
        return f"{sum(fates.values())} tokens: {said}" if cells else ""


def figures_of(statistics: Statistics) -> dict[str, str]:
    """The figures as people read them, the same in the terminal and in the page."""
    lengths = np.sort(statistics.lengths) if len(statistics.lengths) else np.zeros(1, dtype=np.int64)
    middle, most = lengths[len(lengths) // 2], lengths[min(len(lengths) - 1, round(0.95 * len(lengths)))]
    faulty = f", {statistics.faulty} of them faulty (see `graft data check`)" if statistics.faulty else ""
    samples = "" if len(statistics.lengths) == statistics.rows else f" in {len(statistics.lengths):,} samples"
    return {
        "rows": f"{statistics.rows:,}{samples}{faulty}",
        "tokens": f"{lengths.sum():,}; a sample has {middle} (median), {most} (95%), {lengths[-1]} (longest)",
        "trained": f"{statistics.trained.sum():,} tokens, {statistics.trained_share:.1%}",
        "above the cutoff": f"{statistics.over} samples of more than {statistics.cutoff} tokens",
        "roles": _listed(statistics.roles),
        "languages": f"{_listed(statistics.languages)} (by script)",
        "duplicates": f"{statistics.duplicates} exact, {statistics.near - statistics.duplicates} near",
        "saved by sharing": f"{statistics.logical - statistics.executed:,} of {statistics.logical:,} tokens, "
        f"{statistics.saved:.1%}",
    }


def write_data_report(
    path: Path, *, statistics: Statistics, rows: Sequence[ShownRow], facts: Mapping[str, str]
) -> None:
    """Write the page.

    Args:
        facts: what it is about, by name.
    """
    page = Environment(loader=PackageLoader("graft.report", "."), autoescape=True, undefined=StrictUndefined)
    html = page.get_template("data.html").render(
        facts={**facts, **figures_of(statistics)},
        # Our own SVG; its texts are escaped.
        pictures=Markup(data_pictures(statistics)) if len(statistics.lengths) else "",
        rows=rows,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_file(path, html.encode())


def data_pictures(statistics: Statistics) -> str:
    """An SVG: lengths, trained shares, roles, languages, duplicates, and what sharing saves."""
    with style.context(["default", {"svg.hashsalt": "graft", "svg.fonttype": "none"}]):  # not the user's own style
        figure = Figure(figsize=(11, 6), layout="constrained")
        panels = figure.subplots(2, 3).ravel()
        _lengths(panels[0], statistics)
        panels[1].hist(100 * statistics.trained / statistics.lengths, bins=_BINS, range=(0, 100), color=_OURS)
        panels[1].set_title("trained tokens of a sample, %", fontsize="medium")
        _bars(panels[2], "messages of each role", statistics.roles)
        _bars(panels[3], "rows of each language, by script", statistics.languages)
        near = statistics.near - statistics.duplicates
        unlike = statistics.rows - statistics.near
        _bars(panels[4], "rows", {"said once": unlike, "near copies": near, "exact copies": statistics.duplicates})
        saved = statistics.logical - statistics.executed
        _bars(panels[5], "tokens of an epoch", {"computed": statistics.executed, "saved by sharing": saved})
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None})
    svg = target.getvalue()
    return svg[svg.index("<svg") :]


def _lengths(axes: Axes, statistics: Statistics) -> None:
    axes.hist(statistics.lengths, bins=_BINS, color=_OURS)
    if statistics.cutoff <= statistics.lengths.max():
        axes.axvline(statistics.cutoff, color=_LIMIT, label=f"cutoff {statistics.cutoff}")
        axes.legend()
    axes.set_title("tokens of a sample", fontsize="medium")


def _bars(axes: Axes, title: str, counts: Mapping[str, int]) -> None:
    bars = axes.barh(list(counts), list(counts.values()), height=0.6, color=_OURS)
    axes.bar_label(bars, [f"{count:,}" for count in counts.values()], padding=2)
    axes.margins(x=0.25)
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.set_ylim(-0.6, max(len(counts), 3) - 0.4)
    axes.invert_yaxis()
    axes.set_title(title, fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in counts.items()) or "none"
