"""Rows -> figures of a data set."""

import re
import struct
from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graft.data.checks import FAULTY, Seen, Subject, same
from graft.data.spill import Table

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
        lengths: tokens of each sample (N,), whole.
        trained: trained tokens of each sample (N,), whole.
        roles: messages of each role.
        languages: rows by the script that most of their text is in.
        duplicates: rows that say to the letter what an earlier one says.
        near: rows that say nearly what an earlier one says, duplicates among them.
        logical, executed: tokens of the samples within the cutoff, and of these the ones that are computed once samples
            of a step share their prefixes.
    """

    rows: int
    faulty: int
    lengths: NDArray[np.int64]
    trained: NDArray[np.int64]
    roles: dict[str, int]
    languages: dict[str, int]
    duplicates: int
    near: int
    cutoff: int
    logical: int = 0
    executed: int = 0

    def as_json(self) -> dict[str, Any]:
        return {**vars(self), "lengths": self.lengths.tolist(), "trained": self.trained.tolist()}

    @property
    def over(self) -> int:
        """Samples above the cutoff."""
        return int((self.lengths > self.cutoff).sum())

    @property
    def trained_share(self) -> float:
        return int(self.trained.sum()) / max(1, int(self.lengths.sum()))

    @property
    def saved(self) -> float:
        """Share of the tokens that sharing saves."""
        return 1 - self.executed / self.logical if self.logical else 0.0


class Tally:
    """Counts rows as they pass."""

    def __init__(self) -> None:
        self._lengths, self._trained = Table("<i8"), Table("<i8")
        self._roles: Counter[str] = Counter()
        self._languages: Counter[str] = Counter()

    def add(self, row: Seen) -> None:
        """Count a row."""
        for facts in row.samples:
            self._lengths.add(struct.pack("<q", facts.tokens))
            self._trained.add(struct.pack("<q", facts.trained))
        self._roles.update(message.role for message in row.messages)
        if row.messages:
            self._languages[language_of(row.text())] += 1

    def figures(self, subject: Subject, *, logical: int = 0, executed: int = 0) -> Statistics:
        """The figures of these rows; see `Statistics`.

        Args:
            subject: the same rows, surveyed.
        """
        return Statistics(
            rows=len(subject),
            faulty=int(subject.has(FAULTY).sum()),
            lengths=self._lengths.finish(),
            trained=self._trained.finish(),
            roles=dict(self._roles.most_common()),
            languages=dict(self._languages.most_common()),
            duplicates=len(same(subject)),
            near=int((subject.near < len(subject)).sum()),
            cutoff=subject.terms.cutoff,
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
