"""`report.html`: one file, with nothing loaded from elsewhere."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from graft.report.curve import loss_curve
from graft.report.table import COLUMNS, cells
from graft.staging import replace_file


@dataclass(frozen=True)
class Example:
    """A held-out row with what each candidate answered."""

    asked: str
    expected: str
    answers: Mapping[str, str]


def write_report(
    path: Path,
    *,
    title: str,
    steps: Sequence[Mapping[str, Any]] = (),
    first_loss: float | None = None,
    scores: Mapping[str, Mapping[str, float]] | None = None,
    proof: str = "",
    examples: Sequence[Example] = (),
    settings: str = "",
    facts: Mapping[str, str] | None = None,
) -> None:
    """Write the report; parts that are not given are left out.

    Args:
        steps: lines of `metrics.jsonl`.
        first_loss: the held-out loss before the first step.
        scores: figures of each candidate, as `--json` gives them.
    """
    page = Environment(loader=PackageLoader("graft.report", "."), autoescape=True, undefined=StrictUndefined)
    html = page.get_template("page.html").render(
        title=title,
        facts=facts or {},
        columns=COLUMNS,
        scores={name: cells(figures) for name, figures in (scores or {}).items()},
        proof=proof,
        curve=Markup(loss_curve(steps, first_loss)) if steps else "",  # our own SVG, made of numbers alone
        examples=examples,
        settings=settings,
    )
    replace_file(path, html.encode())
