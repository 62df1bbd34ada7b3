"""What `graft data` prints for people."""

import sys

from rich.console import Console
from rich.text import Text

from graft.commands.data import Checked
from graft.data.checks import Finding, counted

_SHOWN = 5  # rows of a finding that are named
_STYLES = {"refused": "bold red", "warning": "yellow"}


def print_checked(result: Checked) -> None:
    """Findings, each with its first rows and the way to mend it, and what they come to."""
    console = results()
    for finding in result.findings:
        for line in _lines(finding):
            console.print(line)
    kinds = [finding.severity for finding in result.findings]
    verdict = "graft train would refuse these rows" if result.refused else "graft train takes these rows"
    console.print(
        f"{counted(result.rows)} checked: {kinds.count('refused')} refused, "
        f"{counted(kinds.count('warning'), 'warning')}; {verdict}"
    )
    if result.cleaned:
        left_out = ", ".join(f"{count} for {name}" for name, count in result.cleaned.dropped.items()) or "none"
        console.print(
            f"{result.out}: {counted(len(result.cleaned.rows))}; left out: {left_out}; mended: {result.cleaned.mended}"
        )


def results() -> Console:
    """Standard output. Off a terminal nothing is wrapped, so that every line can be searched for."""
    return Console(highlight=False, soft_wrap=True, force_terminal=None if sys.stdout.isatty() else False)


def _lines(finding: Finding) -> list[Text]:
    places = finding.places()
    lines = [Text.assemble((finding.severity, _STYLES[finding.severity]), f" {finding.check}: {finding.found.what}")]
    lines += [Text(f"  {at}: {what}") for at, what in places[:_SHOWN]]
    if len(places) > _SHOWN:
        lines.append(Text(f"  and {len(places) - _SHOWN:,} more (--json names all)", style="dim"))
    return [*lines, Text(f"  -> {finding.found.fix}")]
