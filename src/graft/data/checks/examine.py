"""Rows -> what checks see of them -> findings."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from graft.data.checks.contract import CHECKS, Facts, Found, Seen, Severity, Subject
from graft.data.codec import Codec
from graft.data.corpus import Corpus
from graft.data.encode import encode_each
from graft.data.template import Template
from graft.errors import DataError, RowFault
from graft.records import Conversation, Row, Source, TokenSequence

_BATCH = 256


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

    def places(self) -> list[tuple[str, str]]:
        """File and line of each row, and what is wrong with it."""
        return [(str(self.subject.rows[number].source), what) for number, what in self.found.rows.items()]


def find(subject: Subject, *, severity: Severity | None = None) -> list[Finding]:
    """What the checks find, those that refuse first.

    Args:
        severity: run only the checks that have it.
    """
    chosen = [check for check in CHECKS.values() if severity in (None, check.severity)]
    findings = [(check, check.find(subject)) for check in sorted(chosen, key=lambda check: check.severity != "refused")]
    return [Finding(check.name, check.severity, found, subject) for check, found in findings if found]


def examine(
    rows: Iterable[tuple[Row, Conversation | RowFault]],
    template: Template,
    codec: Codec,
    *,
    cutoff: int,
    prompt_weight: float = 0.0,
    keep: Corpus | None = None,
) -> Iterator[Seen]:
    """Each row with what it says, what is wrong with it, and the facts of its samples.

    Args:
        keep: takes the samples that are within the cutoff.
    """
    waiting = iter(rows)
    stops = template.stops(codec) | {codec.eos_id}
    while batch := list(islice(waiting, _BATCH)):
        read = [conversation for _, conversation in batch if isinstance(conversation, Conversation)]
        encoded = iter(_encoded(read, template, codec, prompt_weight))
        for row, conversation in batch:
            if isinstance(conversation, RowFault):
                yield Seen(row.source, row.fields, fault=conversation)
                continue
            samples = next(encoded)
            if isinstance(samples, RowFault):
                yield Seen(row.source, row.fields, conversation, samples)
            else:
                if keep is not None:
                    for sample in samples:
                        if len(sample) <= cutoff:
                            keep.append(sample)
                facts = tuple(_facts(sample, stops, cutoff) for sample in samples)
                yield Seen(row.source, row.fields, conversation, samples=facts)


def check_encoded(
    conversations: Sequence[Conversation],
    corpora: Iterable[Corpus],
    template: Template,
    codec: Codec,
    *,
    cutoff: int,
) -> None:
    """What of the checks refuses rows that are read and encoded already, before a run begins.

    Args:
        corpora: hold the samples of these conversations that are within the cutoff.

    Raises:
        DataError: a check refuses them; all its rows are counted and the first ones are named.
    """
    stops = template.stops(codec) | {codec.eos_id}
    facts: dict[Source | None, list[Facts]] = {}
    for source, tokens, trained, last in chain.from_iterable(corpus.endings() for corpus in corpora):
        ended = last in stops or tokens >= cutoff  # one that long may be cut, as was asked for
        facts.setdefault(source, []).append(Facts(tokens, trained, trained, ended))
    rows = [Seen(c.source, {}, c, samples=tuple(facts.get(c.source, ()))) for c in conversations]
    for finding in find(Subject(rows, cutoff), severity="refused"):
        raise DataError(told(finding), fix=finding.found.fix)


def told(finding: Finding, shown: int = 5) -> str:
    """A finding in one line, its first rows named."""
    places = finding.places()
    named = "; ".join(f"{at}: {what}" for at, what in places[:shown])
    more = f"; and {len(places) - shown} more" if len(places) > shown else ""
    return (
        f"{finding.check}: {finding.found.what} ({named}{more})" if places else f"{finding.check}: {finding.found.what}"
    )


def _facts(sample: TokenSequence, stops: frozenset[int], cutoff: int) -> Facts:
    """What checks ask of a sample that is as long as its row; `stops` are the tokens that end a turn."""
    trained = sample.trained_tokens
    kept = sum(sample.trained[:cutoff]) if len(sample) > cutoff else trained
    last = len(sample) - 1
    while last and not sample.trained[last]:
        last -= 1
    return Facts(len(sample), trained, kept, sample.ids[last] in stops)


def _encoded(
    conversations: Sequence[Conversation], template: Template, codec: Codec, prompt_weight: float
) -> list[list[TokenSequence] | RowFault]:
    """The samples of each conversation; where the template has no place for something in one, that."""
    try:
        return [samples for _, samples in encode_each(conversations, template, codec, prompt_weight)]
    except DataError as error:
        if len(conversations) == 1:
            return [RowFault(error.what.removeprefix(f"{conversations[0].source}: "))]
    return [_encoded([conversation], template, codec, prompt_weight)[0] for conversation in conversations]
