"""Rows, one at a time -> what checks ask of all of them, in memory that hardly grows with their number."""

import hashlib
import struct
from collections.abc import Iterable
from typing import Any

import numpy as np

from graft.data.calls import as_json
from graft.data.checks.contract import (
    ASKED,
    CHECKS,
    FAULTY,
    FOREIGN,
    PLAIN,
    SAID,
    Check,
    Places,
    Seen,
    Subject,
    Terms,
)
from graft.data.checks.nearness import Nearness, normal
from graft.data.checks.tools import without_nulls
from graft.data.keys import all_said, key_of
from graft.data.spill import Table, Texts
from graft.records import Message

KEPT = np.dtype(
    [
        *(("file", "<u4"), ("line", "<u8")),  # where the row stands
        *(("tokens", "<u4"), ("trained", "<u4"), ("kept", "<u4")),  # of its longest sample; of all its samples
        ("flags", "u1"),
        ("key", "<u8"),  # as `content_key`
        *((name, "<u8", (2,)) for name in ("text", "question", "answered")),  # 128 bits of each
    ]
)
"""What is kept of each row, beside what it says, which waits on disk to be compared."""

_RECORD = struct.Struct("<IQIIIBQ16s16s16s")
_NOTHING = bytes(16)


class Survey:
    """Shows each row to the checks that look at one, and keeps what the others ask of it. The row itself is let go.

    Args:
        checks: those that are shown the rows.
    """

    def __init__(self, terms: Terms, *, checks: Iterable[Check] | None = None) -> None:
        self._terms = terms
        chosen = CHECKS.values() if checks is None else checks
        self._looks = [(check.name, check.look) for check in chosen if check.look]
        self._found = {name: (Table("<i8"), Texts()) for name, _ in self._looks}
        self._facts = Table(KEPT)
        self._files: dict[str, int] = {}
        self._nearness = Nearness()
        self._rows = 0

    def add(self, row: Seen, *, foreign: bool = False) -> None:
        """Add a row.

        Args:
            foreign: it stands in a file of its own, given to measure on; such files come last.

        Raises:
            DataError: the disk is full.
        """
        for name, look in self._looks:
            if fault := look(row, self._terms):
                numbers, faults = self._found[name]
                numbers.add(struct.pack("<q", self._rows))
                faults.add(fault)
        self._facts.add(self._record(row, foreign))
        self._nearness.add(row.text())
        self._rows += 1

    def finish(self) -> Subject:
        """What was seen; those to measure on are the foreign ones."""
        facts = self._facts.finish()
        looked = {name: Places(numbers.finish(), faults.__getitem__) for name, (numbers, faults) in self._found.items()}
        held_out = facts["flags"] & FOREIGN > 0
        return Subject(facts, list(self._files), held_out, looked, self._nearness, self._terms)

    def _record(self, row: Seen, foreign: bool) -> bytes:
        flags = FOREIGN * foreign | FAULTY * (row.fault is not None)
        key, digests = 0, (_NOTHING,) * 3
        if row.conversation:
            said = all_said(row.messages)
            key, digests = key_of(said), _digests(row, said)
            flags |= SAID | PLAIN * (row.messages[0].role == "text") | ASKED * (digests[1] != _NOTHING)
        return _RECORD.pack(
            self._files.setdefault(row.source.path, len(self._files)),
            row.source.line,
            row.tokens,
            sum(facts.trained for facts in row.samples),
            sum(facts.kept for facts in row.samples),
            flags,
            key,
            *digests,
        )


def _digests(row: Seen, said: str) -> tuple[bytes, bytes, bytes]:
    """Of all that is said to the letter; of what stands before the last answer, but for case and space; of both these
    and the answer. The last two are empty where nothing is asked.

    Args:
        said: `all_said` in it.
    """
    assert row.conversation
    tools = without_nulls(row.conversation.tools)  # as a cleaned copy has them
    text = _digest(said + as_json(tools))
    if len(row.messages) < 2 or row.messages[-1].role != "assistant":
        return text, _NOTHING, _NOTHING
    *asked, answer = map(_normal_message, row.messages)
    question = _digest(as_json([asked, tools]))
    return text, question, _digest(as_json(answer), question)


def _normal_message(message: Message) -> list[Any]:
    calls = ([normal(call.name), normal(as_json(call.arguments))] for call in message.tool_calls)
    return [message.role, normal(message.content), normal(message.context), *calls]


def _digest(text: str, before: bytes = b"") -> bytes:
    return hashlib.blake2b(before + text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
