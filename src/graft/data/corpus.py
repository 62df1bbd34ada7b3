"""The samples of a data set in flat arrays, so that a long one takes little memory."""

from array import array
from collections.abc import Iterable, Iterator, Sequence
from typing import overload

from graft.records import Source, TokenSequence

_NO_SLOT = -1  # of the base alone
_OF_SHARES = 2  # marks from here on are those of samples with shares


class Corpus(Sequence[TokenSequence]):
    """Token sequences, 5 bytes a token; as Python's own lists of numbers they would take 40.

    A sample is made when it is asked for. The byte of a token tells whether it is trained, or, where the sample has
    shares, which of the few different ones it has.
    """

    def __init__(self, sequences: Iterable[TokenSequence] = ()) -> None:
        self._ids = array("i")
        self._marks = bytearray()
        self._shares: list[float] = [0.0, 1.0]  # the first two for samples without shares
        self._ends = array("q", [0])
        self._weights = array("d")
        self._slots = array("q")
        self._sources: list[Source | None] = []
        for sequence in sequences:
            self.append(sequence)

    def append(self, sequence: TokenSequence) -> None:
        self._ids.extend(sequence.ids)
        self._marks.extend(sequence.trained if sequence.shares is None else map(self._mark, sequence.shares))
        self._ends.append(len(self._ids))
        self._weights.append(sequence.weight)
        self._slots.append(_NO_SLOT if sequence.adapter_slot is None else sequence.adapter_slot)
        self._sources.append(sequence.source)

    def __len__(self) -> int:
        return len(self._sources)

    @overload
    def __getitem__(self, index: int) -> TokenSequence: ...
    @overload
    def __getitem__(self, index: slice) -> list[TokenSequence]: ...
    def __getitem__(self, index: int | slice) -> TokenSequence | list[TokenSequence]:
        numbers = range(len(self))[index]
        return self._sample(numbers) if isinstance(numbers, int) else [self._sample(number) for number in numbers]

    def _sample(self, number: int) -> TokenSequence:
        tokens = slice(self._ends[number], self._ends[number + 1])
        slot = self._slots[number]
        shares = tuple(self._shares[mark] for mark in self._marks[tokens])
        return TokenSequence(
            tuple(self._ids[tokens]),
            tuple(share > 0 for share in shares),
            self._sources[number],
            None if slot == _NO_SLOT else slot,
            self._weights[number],
            shares if self._marks[tokens.start] >= _OF_SHARES else None,
        )

    def endings(self) -> Iterator[tuple[Source | None, int, int, int | None]]:
        """For each sample its source, its tokens, how many of them are trained, and the last trained one; read from the
        arrays, 30 times as fast as from the samples."""
        trained = bytes(share > 0 for share in self._shares).ljust(256, b"\0")
        for number, source in enumerate(self._sources):
            start, stop = self._ends[number], self._ends[number + 1]
            marks = self._marks[start:stop].translate(trained)
            last = marks.rfind(1)
            yield source, stop - start, marks.count(1), self._ids[start + last] if last >= 0 else None

    def _mark(self, share: float) -> int:
        if share not in self._shares[_OF_SHARES:]:
            self._shares.append(share)
        return self._shares.index(share, _OF_SHARES)
