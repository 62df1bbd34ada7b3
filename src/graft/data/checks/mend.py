"""Findings -> a cleaned copy of the rows that were checked. The original is never touched."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from graft.data.calls import as_json, parse_json
from graft.data.checks.contract import CHECKS, FOREIGN, Subject
from graft.data.checks.examine import Finding, find
from graft.data.checks.groups import Numbers
from graft.data.checks.tools import POLLUTED, count_nulls, without_nulls
from graft.errors import DataError
from graft.records import Row


class Cleaner:
    """Leaves out the rows that are refused, copies and leaks, and mends tools.

    What is left has other rows held out than the whole, and others may be near to each other. So it is looked at as the
    copy will be, and more is left out, until a check of the copy finds nothing to leave out.

    Args:
        subject: the rows that were checked.
        drop: names of further checks whose rows are left out.
        split: marks the rows of a subject that `graft train` would hold out; unless given, they stay the same.

    Attributes:
        rows: how many are kept.
        kept: which of those that were checked these are (R,).
        dropped: how many each check left out; a row counts for the first that did.
        mended: rows whose tools had nulls, among those that `fields` has given.
    """

    def __init__(
        self,
        subject: Subject,
        findings: Sequence[Finding],
        *,
        drop: Sequence[str] = (),
        split: Callable[[Subject], Subject] = lambda subject: subject,
    ) -> None:
        self._subject = subject
        self._foreign = subject.has(FOREIGN)
        self.kept = ~self._foreign
        self.dropped: dict[str, int] = {}
        self.mended = 0
        dropping = [name for name, check in CHECKS.items() if check.dropped or name in drop]
        of_all = [name for name in dropping if not CHECKS[name].look]  # what the others find stays as it is
        numbers = np.arange(len(subject))
        while self._leave_out([finding for finding in findings if finding.check in dropping], numbers):
            left = self.kept | self._foreign
            numbers = np.flatnonzero(left)
            findings = find(split(subject.only(left)), names=of_all)
        self.rows = int(self.kept.sum())

    def _leave_out(self, findings: Sequence[Finding], numbers: Numbers) -> bool:
        """Leave out the rows of the findings; False where none was kept.

        Args:
            numbers: of the rows that were looked at, among all.
        """
        before = self.kept.copy()
        for finding in findings:
            found = numbers[np.fromiter(finding.found.rows, dtype=np.int64, count=len(finding.found.rows))]
            if left_out := int(self.kept[found].sum()):
                self.dropped[finding.check] = self.dropped.get(finding.check, 0) + left_out
            self.kept[found] = False
        return bool((before != self.kept).any())

    def fields(self, rows: Iterable[Row]) -> Iterator[Mapping[str, Any]]:
        """The fields of those that are kept, as they are to be written.

        Args:
            rows: those that were checked, read again.

        Raises:
            DataError: they are not the same any more.
        """
        number = -1
        own = len(self._subject) - int(self._foreign.sum())
        for number, row in enumerate(rows):
            if number >= own or row.source != self._subject.source(number):
                raise _changed(row.source.path)
            if self.kept[number]:
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
