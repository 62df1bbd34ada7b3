"""What a check of data is: a function of one row, or of what is kept of all, that finds those with one fault."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from graft.data.checks.alphabet import Alphabet
from graft.data.checks.groups import Numbers, first_of
from graft.data.checks.nearness import Nearness
from graft.data.encoder import TooLong
from graft.errors import RowFault
from graft.records import Conversation, Message, Source

SAID, FOREIGN, PLAIN, ASKED, FAULTY = 1, 2, 4, 8, 16
"""Flags of a row: it is a conversation; it stands in a file of its own, given to measure on; it is plain text; its last
message answers; it has a fault."""

Severity = Literal["refused", "warning"]
"""refused: training on these would go wrong without a word, so `graft train` does not begin. warning: look at it."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a check asks of a sample, its tokens let go.

    Args:
        tokens: of the whole sample, whatever the cutoff.
        trained: of these, those that the model learns to say.
        kept: trained ones within the cutoff.
        ended: the last trained token ends a turn.
    """

    tokens: int
    trained: int
    kept: int
    ended: bool


@dataclass(frozen=True, slots=True)
class Seen:
    """A row, and how far it came on its way to tokens.

    Args:
        fault: why it is no conversation, or why the template cannot write it; None where neither is so.
    """

    source: Source
    conversation: Conversation | None = None
    fault: RowFault | None = None
    samples: tuple[Facts, ...] = ()

    @property
    def tokens(self) -> int:
        return max((facts.tokens for facts in self.samples), default=0)

    @property
    def messages(self) -> tuple[Message, ...]:
        return self.conversation.messages if self.conversation else ()

    def text(self) -> str:
        """All that is said in it, calls included."""
        return "\n".join(part for message in self.messages for part in texts_of(message))


def texts_of(message: Message) -> list[str]:
    """Words, material and calls of a message."""
    calls = [f"{call.name} {dict(call.arguments)}" for call in message.tool_calls]
    return [part for part in (message.content, message.context, *calls) if part]


@dataclass(frozen=True)
class Terms:
    """What rows are held against.

    Args:
        cutoff, too_long: as in `DataConfig`.
        template: name of the template, for messages.
        mismatch: how the template differs from the model's own; "" where it does not.
        marks: texts that the template or the tokenizer writes around words, and that no row should hold.
        alphabet: of the tokenizer.
    """

    cutoff: int
    too_long: TooLong = "drop"
    template: str = "auto"
    mismatch: str = ""
    marks: frozenset[str] = frozenset()
    alphabet: Alphabet = field(default_factory=lambda: Alphabet(str))


class Places(Mapping[int, str]):
    """Rows by number, in order, each with what is wrong with it, which is put into words when it is asked for.

    Args:
        numbers: of the rows (N,), ascending.
        say: what is wrong with the row at a place among them.
    """

    def __init__(self, numbers: Numbers, say: Callable[[int], str]) -> None:
        self.numbers = numbers
        self._say = say

    def __getitem__(self, number: int) -> str:
        place = int(np.searchsorted(self.numbers, number))
        if place == len(self.numbers) or self.numbers[place] != number:
            raise KeyError(number)
        return self._say(place)

    def __iter__(self) -> Iterator[int]:
        return map(int, self.numbers)

    def __len__(self) -> int:
        return len(self.numbers)


@dataclass(frozen=True, eq=False)
class Subject:
    """What is checked: what is kept of the rows, in the order of their files; those of a file given to measure on come
    last.

    Args:
        facts: of each row (R,), in the columns of `survey.KEPT`.
        files: what the numbers in the column `file` stand for.
        held_out: it is measured on, not trained on (R,).
        looked: what each check that looks at one row found.
        nearness: has what each row says.
        chosen: which of its texts the rows are; all unless given.
    """

    facts: NDArray[Any]
    files: Sequence[str]
    held_out: NDArray[np.bool_]
    looked: Mapping[str, Places]
    nearness: Nearness
    terms: Terms
    chosen: NDArray[np.bool_] | None = None

    def only(self, chosen: NDArray[np.bool_]) -> "Subject":
        """What a check of these rows (R,) alone would see, but for what checks find that look at one row."""
        assert self.chosen is None, "rows are chosen once, from all of them"
        return replace(self, facts=self.facts[chosen], held_out=self.held_out[chosen], looked={}, chosen=chosen)

    def __len__(self) -> int:
        return len(self.facts)

    def source(self, number: int) -> Source:
        """Where a row stands."""
        row = self.facts[number]
        return Source(self.files[row["file"]], int(row["line"]))

    def has(self, flag: int) -> NDArray[np.bool_]:
        """Of which rows the flag holds (R,)."""
        held: NDArray[np.bool_] = self.facts["flags"] & flag > 0
        return held

    @cached_property
    def near(self) -> Numbers:
        """The number of the earlier row (R,) that says nearly what a row says; R where there is none."""
        return self.nearness.partners(self.chosen)

    @cached_property
    def copied(self) -> Numbers:
        """The number of the first row (R,) that says to the letter what a row says, and is held out if that is; its own
        where it is the first, or stands in a file given to measure on."""
        own = self.has(SAID) & ~self.has(FOREIGN)
        trained, held_out = (first_of(self.facts["text"], own & part) for part in (~self.held_out, self.held_out))
        return np.where(self.held_out, held_out, trained)


@dataclass(frozen=True)
class Found:
    """What one check found.

    Args:
        what: what is wrong, with the numbers.
        fix: what mends it.
        rows: numbers of rows, ascending, each with what is wrong with it; none where it is about all of them.
    """

    what: str
    fix: str
    rows: Mapping[int, str] = field(default_factory=dict)


Find = Callable[[Subject], Found | None]
Look = Callable[[Seen, Terms], str]
"""What is wrong with a row, whatever the others are; "" where nothing is."""


@dataclass(frozen=True)
class Check:
    """A registered check.

    Args:
        dropped: `--fix` leaves its rows out.
        look: of a check that needs to see no more than one row.
        what, fix: what such a check says of the rows that it finds.
    """

    name: str
    severity: Severity
    find: Find
    dropped: bool
    look: Look | None = None
    what: str = ""
    fix: str = ""


CHECKS: dict[str, Check] = {}


def check(name: str, severity: Severity, *, dropped: bool = False) -> Callable[[Find], Find]:
    """Register a function as the check `name`. Rows that are refused are always left out of a cleaned copy."""

    def register(find: Find) -> Find:
        assert name not in CHECKS, f"two checks are called {name}"
        CHECKS[name] = Check(name, severity, find, dropped or severity == "refused")
        return find

    return register


def row_check(name: str, severity: Severity, *, what: str, fix: str, dropped: bool = False) -> Callable[[Look], Look]:
    """Register a function that looks at one row as the check `name`.

    Args:
        what: stands behind the number of rows: "3 rows with ...".
    """

    def register(look: Look) -> Look:
        def find(subject: Subject) -> Found | None:
            rows = subject.looked[name]
            return Found(f"{counted(len(rows))} {what}", fix, rows) if rows else None

        assert name not in CHECKS, f"two checks are called {name}"
        CHECKS[name] = Check(name, severity, find, dropped or severity == "refused", look, what, fix)
        return look

    return register


def counted(number: int, noun: str = "row") -> str:
    """`1 row`, `2 rows`."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
