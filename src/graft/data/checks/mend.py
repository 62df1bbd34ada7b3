"""Findings -> a cleaned copy of the rows that were checked. The original is never touched."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from graft.data.calls import as_json, parse_json
from graft.data.checks.contract import CHECKS, FOREIGN, Subject
from graft.data.checks.examine import Finding
from graft.data.checks.tools import POLLUTED, count_nulls, without_nulls
from graft.errors import DataError
from graft.records import Row


class Cleaner:
    """Leaves out the rows that are refused, copies and leaks, and mends tools.

    Args:
        subject: the rows that were checked.
        drop: names of further checks whose rows are left out.

    Attributes:
        rows: how many are kept.
        dropped: how many each check left out; a row counts for the first that did.
        mended: rows whose tools had nulls, among those that `fields` has given.
    """

    def __init__(self, subject: Subject, findings: Sequence[Finding], *, drop: Sequence[str] = ()) -> None:
        self._subject = subject
        self._kept = ~subject.has(FOREIGN)
        self.dropped: dict[str, int] = {}
        self.mended = 0
        for finding in findings:
            if CHECKS[finding.check].dropped or finding.check in drop:
                numbers = np.fromiter(finding.found.rows, dtype=np.int64, count=len(finding.found.rows))
                if left_out := int(self._kept[numbers].sum()):
                    self.dropped[finding.check] = left_out
                self._kept[numbers] = False
        self.rows = int(self._kept.sum())

    def fields(self, rows: Iterable[Row]) -> Iterator[Mapping[str, Any]]:
        """The fields of those that are kept, as they are to be written.

        Args:
            rows: those that were checked, read again.

        Raises:
            DataError: they are not the same any more.
        """
        number = -1
        own = len(self._subject) - int(self._subject.has(FOREIGN).sum())
        for number, row in enumerate(rows):
            if number >= own or row.source != self._subject.source(number):
                raise _changed(row.source.path)
            if self._kept[number]:
                mended = dict(_mended(row.fields))
                self.mended += mended != dict(row.fields)
                yield mended
        if number + 1 < own:
            raise _changed(self._subject.source(number + 1).path)


def _changed(path: str) -> DataError:
    return DataError(f"{path} was changed while it was checked", fix="check it again when nothing writes to it")


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
