"""Texts that say nearly the same, found in near-linear time: MinHash (Broder 1997) and locality-sensitive hashing.

A text is the set of its stretches of 4 characters, so nothing depends on a language's word boundaries. N = texts,
G = stretches of a text, P = hash functions.
"""

import unicodedata
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from graft.data.checks.groups import Chosen, Numbers, crowded, leaders
from graft.data.spill import Table, Texts

NEAR = 0.8
"""Share of stretches that two texts must have in common, of all that either has (Jaccard)."""

_STRETCH = 4
_PIECE = 256  # characters; no writing puts as many marks on one letter
_BANDS, _ROWS = 16, 8
"""Texts are compared where one of 16 bands of 8 hashes agrees: 95% of pairs at 0.8, 99% at 0.85, 1 in 4,000 at 0.25."""
_CHUNK = 2**12  # characters hashed at a time, which with all functions stay in a processor's cache
_COMPARED = 2**12  # signatures held against one at a time
_ROUNDS = 8  # texts of one bucket that the others are held against
_DOUBT = 0.15  # how far an estimate from 128 hashes may be off: four standard deviations

_Hashes = NDArray[np.uint32]
_RANDOM = np.random.Generator(np.random.PCG64(20260101))  # fixed: the same texts give the same pairs everywhere
_FACTORS: _Hashes = _RANDOM.integers(0, 2**31, (_BANDS * _ROWS, 1), dtype=np.uint32) * np.uint32(2) + np.uint32(1)
_TERMS: _Hashes = _RANDOM.integers(0, 2**32, (_BANDS * _ROWS, 1), dtype=np.uint32)
_POWERS = _RANDOM.integers(0, 2**63, max(_STRETCH, _ROWS), dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def normal(text: str) -> str:
    """`text` without what does not change what it says: width, case and the amount of space."""
    return " ".join(_composed(text).casefold().split())


def _composed(text: str) -> str:
    """NFKC, in pieces, as its time grows with the square of marks that stand in a row."""
    if unicodedata.is_normalized("NFKC", text):
        return text
    pieces, start = [], 0
    while start < len(text):
        stop = start + _PIECE
        while stop < min(len(text), start + 2 * _PIECE) and unicodedata.combining(text[stop]):
            stop += 1
        pieces.append(unicodedata.normalize("NFKC", text[start:stop]))
        start = stop
    return "".join(pieces)


def alike(texts: Iterable[str]) -> dict[int, int]:
    """For each text that is at least `NEAR` to an earlier one, the earlier one. Empty texts are like no other."""
    nearness = Nearness()
    for text in texts:
        nearness.add(text)
    partners = nearness.partners()
    later = np.flatnonzero(partners < len(partners))
    return dict(zip(later.tolist(), partners[later].tolist(), strict=True))


class Nearness:
    """Takes texts one at a time, and keeps of each what it is compared by; where they are many, on disk.

    Of a crowd of texts that are all alike each is held against the first few only, so time grows with the number of
    texts, not of pairs.
    """

    def __init__(self) -> None:
        self._waiting: list[str] = []
        self._characters = 0
        self._words = Texts()
        self._signatures, self._keys = Table("u4"), Table("u8")
        self._said = bytearray()

    def add(self, text: str) -> None:
        """Add a text."""
        words = normal(text)
        if self._waiting and len(words) >= _CHUNK:
            self._sign()  # a long one goes alone, in parts
        self._words.add(words)
        self._said.append(bool(words))
        self._waiting.append(words)
        self._characters += len(words)
        if self._characters >= _CHUNK:
            self._sign()

    def partners(self, chosen: Chosen | None = None) -> Numbers:
        """Of each text (N,) the number of the earlier one that it is near to; N where there is none.

        Args:
            chosen: those that are looked at, of all that were added; the others are as if they had never been, and
                the numbers are those among the chosen.
        """
        if self._waiting:
            self._sign()
        signatures = self._signatures.finish().reshape(-1, _BANDS * _ROWS)
        keys = self._keys.finish().reshape(-1, _BANDS)
        said = np.frombuffer(self._said, dtype=bool)
        partner = np.full(len(said), len(said), dtype=np.int64)

        @lru_cache(maxsize=512)
        def stretches(number: int) -> _Hashes:
            return np.unique(_stretches([self._words[number]]))

        for band in range(_BANDS):
            numbers, buckets = crowded(keys[:, band], said if chosen is None else said & chosen)
            _pair(numbers, buckets, signatures, stretches, partner)
        if chosen is None:
            return partner
        renumbered = np.append(np.cumsum(chosen) - 1, np.count_nonzero(chosen))  # the last one for no partner
        return renumbered[partner[chosen]]

    def _sign(self) -> None:
        signatures = _signatures(self._waiting)
        self._signatures.add(signatures)
        banded = signatures.reshape(-1, _BANDS, _ROWS)
        self._keys.add((banded * _POWERS[:_ROWS]).sum(axis=2, dtype=np.uint64))
        self._waiting.clear()
        self._characters = 0


def _pair(
    numbers: Numbers, buckets: Numbers, signatures: _Hashes, stretches: Callable[[int], _Hashes], partner: Numbers
) -> None:
    """Find partners among the texts (N,) of each bucket, whose numbers ascend in it."""
    for _ in range(_ROUNDS):
        leading, begins = leaders(numbers, buckets)
        first, numbers, buckets = leading[~begins], numbers[~begins], buckets[~begins]
        near = partner[numbers] == first  # as another band told
        unknown = np.flatnonzero(~near)
        promising = unknown[_estimates(signatures, first[unknown], numbers[unknown]) >= NEAR - _DOUBT]
        near[promising] = partner[numbers[promising]] < first[promising]
        for place in promising[~near[promising]].tolist():
            one, other = int(first[place]), int(numbers[place])
            if _jaccard(stretches(one), stretches(other)) >= NEAR:
                partner[other] = one
                near[place] = True
        numbers, buckets = numbers[~near], buckets[~near]


def _estimates(signatures: _Hashes, first: Numbers, others: Numbers) -> NDArray[np.float64]:
    """Share of hashes that each of the others (N,) has in common with its first."""
    agreeing = np.zeros(len(others), dtype=np.int64)
    for start in range(0, len(others), _COMPARED):
        part = slice(start, start + _COMPARED)
        agreeing[part] = np.count_nonzero(signatures[others[part]] == signatures[first[part]], axis=1)
    return agreeing / (_BANDS * _ROWS)


def _signatures(texts: Sequence[str]) -> _Hashes:
    """The least values (N, P) that each hash function has on the stretches of each text."""
    if len(texts) == 1:
        return _signature(texts[0])[None]
    counts = np.array([max(len(text), _STRETCH) - _STRETCH + 1 for text in texts])
    drawn = _stretches(texts) * _FACTORS
    drawn += _TERMS
    least: _Hashes = np.minimum.reduceat(drawn, np.cumsum(counts) - counts, axis=1)
    return np.ascontiguousarray(least.T)


def _signature(text: str) -> _Hashes:
    """`_signatures` of one text, which may be long."""
    hashes = _stretches([text])
    least = np.full(len(_FACTORS), np.iinfo(np.uint32).max, dtype=np.uint32)
    for start in range(0, len(hashes), _CHUNK):
        drawn = hashes[start : start + _CHUNK] * _FACTORS
        drawn += _TERMS
        np.minimum(least, drawn.min(axis=1), out=least)
    return least


def _stretches(texts: Sequence[str]) -> _Hashes:
    """A hash of each stretch of each text (G,), one text after the other; mixed as by splitmix64 so that every bit of a
    character reaches every bit of it."""
    padded = [text.ljust(_STRETCH) for text in texts]
    packed = "".join(padded).encode("utf-32-le", "surrogatepass")
    points = np.frombuffer(packed, dtype=np.uint32).astype(np.uint64)
    count = len(points) - _STRETCH + 1
    hashes = np.zeros(count, dtype=np.uint64)
    for place, power in enumerate(_POWERS[:_STRETCH]):
        hashes += points[place : place + count] * power
    if len(texts) > 1:  # no stretch goes from one text into the next
        borders = np.cumsum([len(text) for text in padded[:-1]])
        within = np.ones(count, dtype=bool)
        for place in range(1, _STRETCH):
            within[borders - place] = False
        hashes = hashes[within]
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        hashes = (hashes ^ (hashes >> np.uint64(shift))) * np.uint64(factor)
    return (hashes >> np.uint64(32)).astype(np.uint32)


def _jaccard(one: _Hashes, other: _Hashes) -> float:
    both = np.concatenate((one, other))
    both.sort()
    common = int(np.count_nonzero(both[1:] == both[:-1]))
    return common / (len(both) - common)
