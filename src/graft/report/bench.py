"""The picture and the table of a bench."""

import io
from collections.abc import Mapping
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure

# Of the tokens, those of the samples, those that went through the model and those trained, all a second.
BENCH_COLUMNS = ("samples/s", "tokens/s", "executed", "trained", "limit", "memory", "loss off", "Graft is")
_OURS, _THEIRS = "#4a7ebb", "#a6a6a6"


def bench_cells(figures: Mapping[str, Any], speed_up: float | None) -> list[str]:
    """The figures of one contender, in the order of `BENCH_COLUMNS`."""
    difference = figures["loss_difference"]
    return [
        f"{figures['samples_per_s']:.2f}",
        f"{figures['tokens_logical_per_s']:.0f}",
        f"{figures['tokens_executed_per_s']:.0f}",
        f"{figures['tokens_trained_per_s']:.0f}",
        f"{figures['limit_share']:.0%}",
        f"{figures['peak_memory_bytes'] / 2**20:.0f} MiB",
        "" if difference is None else f"{difference:.1e}",
        "" if speed_up is None else f"{speed_up:.2f} x",
    ]


def bench_bars(contenders: Mapping[str, Mapping[str, Any]]) -> str:
    """An SVG: samples/s, share of the machine's limit and peak memory of each contender."""
    panels = (
        ("samples/s", {name: f["samples_per_s"] for name, f in contenders.items()}, "{:.2f}"),
        ("% of the matrix limit", {name: 100 * f["limit_share"] for name, f in contenders.items()}, "{:.0f}"),
        ("peak memory, MiB", {name: f["peak_memory_bytes"] / 2**20 for name, f in contenders.items()}, "{:.0f}"),
    )  # fmt: skip
    with style.context(["default", {"svg.hashsalt": "graft", "svg.fonttype": "none"}]):  # not the user's own style
        figure = Figure(figsize=(11, 0.8 + 0.4 * len(contenders)), layout="constrained")
        for axes, (title, values, shown) in zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True):
            colours = [_THEIRS if contenders[name]["beside"] else _OURS for name in values]
            bars = axes.barh(list(values), list(values.values()), color=colours)
            axes.bar_label(bars, [shown.format(value) for value in values.values()], padding=2)
            axes.margins(x=0.2)
            axes.set_title(title, fontsize="medium")
            axes.spines[["top", "right"]].set_visible(False)
        axes.invert_yaxis()  # shared: the first contender stands on top everywhere
        target = io.StringIO()
        figure.savefig(target, format="svg", metadata={"Date": None})
    return target.getvalue()
