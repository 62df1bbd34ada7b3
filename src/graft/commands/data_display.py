"""What `graft data` prints for people."""

import sys
from collections.abc import Sequence
from itertools import groupby, islice

from rich.console import Console
from rich.text import Text

from graft.commands.data import Checked
from graft.commands.show import Shown
from graft.data.checks import Finding, counted
from graft.data.view import Cell, Fate
from graft.errors import GraftError
from graft.report import figures_of
from graft.terminal import printable

_FATES: dict[Fate, str] = {
    "trained": "black on green",
    "partly": "black on yellow",
    "context": "dim",
    "cut": "white on red strike",
}
_BRACKETS = {"trained": "⟦⟧", "partly": "⟨⟩", "context": ("", ""), "cut": "⟪⟫"}
_NAMED = "⦗⦘"  # what is in them is one special token, and no text that spells it
_SHOWN = 5  # rows of a finding that are named
_STYLES = {"refused": "bold red", "warning": "yellow"}


def print_checked(result: Checked) -> None:
    """Findings, each with its first rows and the way to mend it, and what they come to."""
    console = results()
    for finding in result.findings:
        for line in _lines(finding):
            console.print(line)
    if result.obstacle:
        console.print(Text.assemble(("refused", _STYLES["refused"]), f" by graft train: {_said(result.obstacle)}"))
    kinds = [finding.severity for finding in result.findings]
    verdict = "graft train would refuse these rows" if result.refused else "graft train takes these rows"
    console.print(
        f"{counted(result.rows)} checked: {counted(kinds.count('refused') + bool(result.obstacle), 'ground')} to "
        f"refuse, {counted(kinds.count('warning'), 'warning')}; {verdict}"
    )
    if result.copy:
        cleaner, obstacle = result.copy.cleaner, result.copy.obstacle
        left_out = ", ".join(f"{count} for {name}" for name, count in cleaner.dropped.items()) or "none"
        taken = f"graft train would refuse it: {_said(obstacle)}" if obstacle else "graft train takes it"
        console.print(
            f"{result.copy.out}: {counted(cleaner.rows)}; left out: {left_out}; mended: {cleaner.mended}; {taken}"
        )


def _said(obstacle: GraftError) -> str:
    return printable(f"{obstacle.what}\n  -> {obstacle.fix}")


def print_shown(result: Shown) -> None:
    """The figures, then each row with every token coloured by what becomes of it."""
    console = results()
    for name, value in figures_of(result.statistics).items():
        console.print(Text.assemble((f"{name}: ", "bold"), value))
    if result.html:
        return console.print(Text(f"page: {result.html}"))
    marked = console.color_system is None or console.no_color
    legend = Text("\n")
    for fate in _FATES:
        legend.append_text(_painted([Cell(fate, fate)], marked=marked)).append(" ")
    legend.append_text(_painted([Cell("special token", "context", special=True)], marked=marked))
    console.print(legend)
    for row in result.rows:
        console.print(
            Text.assemble("\n", (f"row {row.number}", "bold"), printable(f" {row.source}  {row.counts() or row.fault}"))
        )
        for sample in row.samples:
            console.print(_painted(sample, marked=marked))
    return None


def _painted(cells: Sequence[Cell], *, marked: bool) -> Text:
    """Cells in their colours; `marked` puts brackets around what is trained, cut or special, where there are none."""
    painted = Text()
    for fate, run in groupby(cells, key=lambda cell: cell.fate):
        begin, end = _BRACKETS[fate] if marked else ("", "")
        painted.append(begin)
        for cell in run:
            named = cell.text.join(_NAMED) if marked and cell.special else cell.text
            painted.append(printable(named), f"{_FATES[fate]} bold" if cell.special else _FATES[fate])
        painted.append(end)
    return painted


def results() -> Console:
    """Standard output. Off a terminal nothing is wrapped, so that every line can be searched for."""
    return Console(highlight=False, markup=False, soft_wrap=True, force_terminal=None if sys.stdout.isatty() else False)


def _lines(finding: Finding) -> list[Text]:
    count = len(finding.found.rows)
    what = printable(finding.found.what)
    lines = [Text.assemble((finding.severity, _STYLES[finding.severity]), f" {finding.check}: {what}")]
    places = islice(finding.places(), _SHOWN)
    lines += [Text(printable(" ".join(f"  {at}: {what}".splitlines()))) for at, what in places]
    if count > _SHOWN:
        lines.append(Text(f"  and {count - _SHOWN:,} more (--json names all)", style="dim"))
    return [*lines, Text(f"  -> {finding.found.fix}")]
