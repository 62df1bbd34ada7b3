"""Rows -> what checks see of them -> findings."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from graft.data.checks.contract import CHECKS, Facts, Found, Seen, Severity, Subject, Terms, counted
from graft.data.codec import Codec
from graft.data.encode import encode_any
from graft.data.encoder import Look
from graft.data.template import Template
from graft.errors import DataError, RowFault
from graft.records import Conversation, Row, TokenSequence

_SHOWN = 5  # rows that an error names


@dataclass(frozen=True)
class Finding:
    """What a check found in rows, as people and machines are told."""

    check: str
    severity: Severity
    found: Found
    subject: Subject

    def as_json(self) -> dict[str, Any]:
        named = {"check": self.check, "severity": self.severity, "what": self.found.what, "fix": self.found.fix}
        return {
            **named,
            "count": len(self.found.rows),
            "rows": [{"at": at, "what": what} for at, what in self.places()],
        }

    def places(self) -> Iterator[tuple[str, str]]:
        """File and line of each row, and what is wrong with it."""
        return ((str(self.subject.source(number)), what) for number, what in self.found.rows.items())


def find(subject: Subject, *, names: Iterable[str] | None = None) -> list[Finding]:
    """What the checks find, those that refuse first.

    Args:
        names: of the checks to run; all unless given.
    """
    chosen = [CHECKS[name] for name in (CHECKS if names is None else names)]
    findings = [(check, check.find(subject)) for check in sorted(chosen, key=lambda check: check.severity != "refused")]
    return [Finding(check.name, check.severity, found, subject) for check, found in findings if found]


def examine(
    rows: Iterable[tuple[Row, Conversation | RowFault]],
    template: Template,
    codec: Codec,
    *,
    cutoff: int,
    prompt_weight: float = 0.0,
    keep: Look | None = None,
) -> Iterator[Seen]:
    """Each row with what it says, what is wrong with it, and the facts of its samples.

    Args:
        keep: is given each conversation that could be encoded, and its samples, however long.
    """
    stops = template.stops(codec) | {codec.eos_id}
    waiting: deque[tuple[Row, Conversation | RowFault]] = deque()

    def conversations() -> Iterator[Conversation]:
        for item in rows:
            waiting.append(item)
            if isinstance(item[1], Conversation):
                yield item[1]

    for conversation, samples in encode_any(conversations(), template, codec, prompt_weight):
        yield from _faulty(waiting)
        row, _ = waiting.popleft()
        if isinstance(samples, DataError):
            yield Seen(row.source, conversation, RowFault(samples.what, "template"))
            continue
        if keep is not None:
            keep(conversation, samples)
        facts = tuple(_facts(sample, stops, cutoff) for sample in samples)
        yield Seen(row.source, conversation, samples=facts)
    yield from _faulty(waiting)


def _faulty(waiting: deque[tuple[Row, Conversation | RowFault]]) -> Iterator[Seen]:
    """The rows up to the next conversation."""
    while waiting and isinstance(fault := waiting[0][1], RowFault):
        row, _ = waiting.popleft()
        yield Seen(row.source, fault=fault)


class Watch:
    """Shows rows that are encoded, one by one, to the checks that refuse data.

    Args:
        cutoff: as in `DataConfig`.
    """

    def __init__(self, template: Template, codec: Codec, *, cutoff: int) -> None:
        self._stops = template.stops(codec) | {codec.eos_id}
        self._terms = Terms(cutoff)
        self._checks = [(check, check.look) for check in CHECKS.values() if check.severity == "refused" and check.look]
        self._found: dict[str, list[str]] = {}
        self._counts: Counter[str] = Counter()

    def look(self, conversation: Conversation, samples: Sequence[TokenSequence]) -> None:
        facts = tuple(_facts(sample, self._stops, self._terms.cutoff) for sample in samples)
        row = Seen(conversation.source, conversation, samples=facts)
        for check, look in self._checks:
            if fault := look(row, self._terms):
                self._counts[check.name] += 1
                if self._counts[check.name] <= _SHOWN:
                    self._found.setdefault(check.name, []).append(f"{row.source}: {fault}")

    def refuse(self) -> None:
        """Raise a DataError if a check refuses rows: all of them are counted and the first ones are named."""
        for name, places in self._found.items():
            check, count = CHECKS[name], self._counts[name]
            more = f"; and {count - len(places)} more" if count > len(places) else ""
            raise DataError(f"{name}: {counted(count)} {check.what} ({'; '.join(places)}{more})", fix=check.fix)


def _facts(sample: TokenSequence, stops: frozenset[int], cutoff: int) -> Facts:
    """What checks ask of a sample that is as long as its row; `stops` are the tokens that end a turn."""
    trained = sample.trained_tokens
    kept = sample.trained[:cutoff].count(True) if len(sample) > cutoff else trained
    last = len(sample) - 1
    while last and not sample.trained[last]:
        last -= 1
    return Facts(len(sample), trained, kept, sample.ids[last] in stops)
