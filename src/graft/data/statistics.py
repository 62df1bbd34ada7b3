"""Rows -> figures of a data set."""

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from graft.data.checks import Seen, Subject, same

_GLANCE = 2000  # characters of a row that its language is guessed from

SCRIPTS: dict[str, re.Pattern[str]] = {
    "Latin": re.compile("[A-Za-z\u00c0-\u024f]"),
    "Chinese": re.compile("[\u3400-\u9fff\U00020000-\U0003ffff]"),
    "Japanese": re.compile("[\u3040-\u30ff]"),
    "Korean": re.compile("[\uac00-\ud7af]"),
    "Cyrillic": re.compile("[\u0400-\u052f]"),
    "Arabic": re.compile("[\u0600-\u06ff]"),
    "Hebrew": re.compile("[\u0590-\u05ff]"),
    "Greek": re.compile("[\u0370-\u03ff]"),
    "Devanagari": re.compile("[\u0900-\u097f]"),
    "Thai": re.compile("[\u0e00-\u0e7f]"),
}
_WORD_LETTERS = 4
"""Letters that say as much as one Chinese or Japanese character."""


@dataclass(frozen=True)
class Statistics:
    """Figures of a data set.

    Args:
        rows: all, faulty ones among them.
        faulty: rows that cannot be read or written; `graft data check` lists them.
        lengths: tokens of each sample, whole.
        trained: trained tokens of each sample, whole.
        roles: messages of each role.
        languages: rows by the script that most of their text is in.
        duplicates: rows that say to the letter what an earlier one says.
        near: rows that say nearly what an earlier one says, duplicates among them.
        logical, executed: tokens of the samples within the cutoff, and of these the ones that are computed once samples
            of a step share their prefixes.
    """

    rows: int
    faulty: int
    lengths: Sequence[int]
    trained: Sequence[int]
    roles: dict[str, int]
    languages: dict[str, int]
    duplicates: int
    near: int
    cutoff: int
    logical: int = 0
    executed: int = 0

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    @property
    def over(self) -> int:
        """Samples above the cutoff."""
        return sum(length > self.cutoff for length in self.lengths)

    @property
    def trained_share(self) -> float:
        return sum(self.trained) / max(1, sum(self.lengths))

    @property
    def saved(self) -> float:
        """Share of the tokens that sharing saves."""
        return 1 - self.executed / self.logical if self.logical else 0.0


def statistics_of(rows: Sequence[Seen], *, cutoff: int, logical: int = 0, executed: int = 0) -> Statistics:
    """The figures of `rows`; see `Statistics`."""
    subject = Subject(rows, cutoff)
    samples = [facts for row in rows for facts in row.samples]
    return Statistics(
        rows=len(rows),
        faulty=sum(row.fault is not None for row in rows),
        lengths=[facts.tokens for facts in samples],
        trained=[facts.trained for facts in samples],
        roles=dict(Counter(message.role for row in rows for message in row.messages).most_common()),
        languages=dict(Counter(language_of(row.text()) for row in rows if row.messages).most_common()),
        duplicates=len(same(subject)),
        near=len(subject.near),
        cutoff=cutoff,
        logical=logical,
        executed=executed,
    )


def language_of(text: str) -> str:
    """The language of `text` as its script tells it: a guess that names English and French alike Latin. A script that
    has a fifth of the text beside the first is named too: "Latin and Chinese"."""
    glance = text[:_GLANCE]
    counts = {name: len(letters.findall(glance)) for name, letters in SCRIPTS.items()}
    if counts["Japanese"]:
        counts["Japanese"] += counts.pop("Chinese")  # kanji are the same characters
    weights = {name: n if name in ("Chinese", "Japanese") else n / _WORD_LETTERS for name, n in counts.items()}
    whole = sum(weights.values())
    ranked = sorted((name for name in weights if weights[name] > whole / 5), key=lambda name: -weights[name])
    return " and ".join(ranked[:2]) or "no letters"
