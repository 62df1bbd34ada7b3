"""Findings -> a cleaned copy of the rows that were checked. The original is never touched."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graft.data.calls import as_json, parse_json
from graft.data.checks.contract import CHECKS, Seen
from graft.data.checks.examine import Finding
from graft.data.checks.tools import POLLUTED, count_nulls, without_nulls


@dataclass(frozen=True)
class Cleaned:
    """The rows of a cleaned copy.

    Args:
        rows: their fields, in the order of the file.
        dropped: how many each check left out; a row counts for the first that did.
        mended: rows whose tools had nulls.
    """

    rows: list[Mapping[str, Any]]
    dropped: dict[str, int]
    mended: int


def clean(rows: Sequence[Seen], findings: Sequence[Finding], *, drop: Sequence[str] = ()) -> Cleaned:
    """The rows without those that are refused, copies and leaks, and with tools mended.

    Args:
        rows: those of the findings' subject.
        drop: names of further checks whose rows are left out.
    """
    out: dict[int, str] = {}
    for finding in findings:
        if CHECKS[finding.check].dropped or finding.check in drop:
            for number in finding.found.rows:
                out.setdefault(number, finding.check)
    dropped: dict[str, int] = {}
    for number, name in out.items():
        if not rows[number].foreign:
            dropped[name] = dropped.get(name, 0) + 1
    kept = [row for number, row in enumerate(rows) if number not in out and not row.foreign]
    mended = [dict(_mended(row.fields)) for row in kept]
    changed = sum(dict(row.fields) != fields for row, fields in zip(kept, mended, strict=True))
    return Cleaned(list(mended), dropped, changed)


def _mended(fields: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in fields.items():
        yield key, _without(value) if key in POLLUTED else value


def _without(value: Any) -> Any:
    """Tools without nulls; a text that holds them in JSON stays one."""
    if not isinstance(value, str):
        return without_nulls(value) if count_nulls(value) else value
    try:
        tools = parse_json(value)
    except ValueError:
        return value  # its row is refused, and left out
    return as_json(without_nulls(tools)) if count_nulls(tools) else value
