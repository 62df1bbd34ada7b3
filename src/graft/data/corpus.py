"""The samples of a data set in flat arrays, in memory or mapped from files, so that a long one takes little memory.

N = samples, T = tokens of all of them, R = rows that they come from.
"""

import hashlib
import json
import struct
from array import array
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from graft.records import Source, TokenSequence

COLUMNS = {
    **{"ids": "i", "marks": "B", "ends": "q", "weights": "d", "rows": "i", "files": "i", "lines": "q"},
    **{"keys": "Q", "origins": "i"},
}
"""Name and type code of each array. ids and marks (T,), ends (N + 1,), keys and origins (R,), the others (N,)."""

_INDEX = "corpus.json"
_OF_SHARES = 2  # marks from here on are those of samples with shares
_NOWHERE = -1  # the file of a sample that has no place
_BLOCK = 2**18  # samples
_FLUSHED = 2**18  # tokens that wait in memory before they are written

Numbers = NDArray[np.int32]
"""Of samples, rows and tokens of a sample: 2 billion do."""


@dataclass(frozen=True)
class Names:
    """What the numbers in the arrays stand for: files by their numbers, and shares in the loss by their marks."""

    files: list[str]
    shares: list[float]


class Corpus(Sequence[TokenSequence]):
    """Token sequences, 5 bytes a token; as Python's own lists of numbers they would take 40.

    A sample is made when it is asked for. The byte of a token tells whether it is trained, or, where the sample has
    shares, which of the few different ones it has.

    Args:
        chosen: numbers of the samples that it is made of (N,), in order; all unless given.
    """

    def __init__(self, columns: dict[str, NDArray[Any]], names: Names, chosen: Numbers | None = None) -> None:
        self._columns = columns
        self._names = names
        self._chosen = chosen

    @classmethod
    def of(cls, sequences: Iterable[TokenSequence]) -> "Corpus":
        """These samples, each a row of its own."""
        builder = CorpusBuilder()
        for sequence in sequences:
            builder.append_row([sequence])
        return builder.finish()

    @classmethod
    def open(cls, folder: Path) -> "Corpus":
        """The samples that a builder wrote into `folder`, mapped: only what is asked for is read."""
        names = Names(**json.loads((folder / _INDEX).read_text(encoding="utf-8")))
        return cls({name: _mapped(folder / name, code) for name, code in COLUMNS.items()}, names)

    def take(self, chosen: Numbers) -> "Corpus":
        """The samples with these numbers, in this order. Nothing is copied but the numbers."""
        return Corpus(self._columns, self._names, chosen if self._chosen is None else self._chosen[chosen])

    def take_where(self, mask: NDArray[np.bool_]) -> "Corpus":
        """The samples for which `mask` (N,) holds."""
        chosen = np.empty(np.count_nonzero(mask), dtype=np.int32)
        filled = 0
        for start in range(0, len(mask), _BLOCK):  # numpy's own numbers of millions at once take twice as much memory
            numbers = np.flatnonzero(mask[start : start + _BLOCK])
            chosen[filled : filled + len(numbers)] = numbers + start
            filled += len(numbers)
        return self.take(chosen)

    def __len__(self) -> int:
        return len(self._columns["lines"]) if self._chosen is None else len(self._chosen)

    @property
    def lengths(self) -> Numbers:
        """Tokens of each sample (N,)."""
        ends = self._columns["ends"]
        chosen: Any = slice(None) if self._chosen is None else self._chosen
        lengths: Numbers = (ends[1:][chosen] - ends[:-1][chosen]).astype(np.int32)
        return lengths

    @property
    def rows(self) -> Numbers:
        """The number of the row that each sample comes from (N,)."""
        rows: Numbers = self._columns["rows"]
        return rows if self._chosen is None else rows[self._chosen]

    @property
    def keys(self) -> NDArray[np.uint64]:
        """What each row says, as a number (R,); rows without a sample have one too."""
        return self._columns["keys"]

    @property
    def origins(self) -> NDArray[np.int32]:
        """The number of the source that each row comes from (R,)."""
        return self._columns["origins"]

    def digest(self) -> str:
        """SHA-256 of the samples, in order."""
        digest = hashlib.sha256(json.dumps(self._names.shares).encode())
        for name in ("ids", "marks", "ends", "weights"):
            digest.update(hashlib.sha256(self._columns[name].data).digest())
        digest.update((np.arange(len(self), dtype=np.int32) if self._chosen is None else self._chosen).data)
        return digest.hexdigest()

    def any_trained(self) -> bool:
        """Whether the model learns anything of it."""
        trained = np.array(self._names.shares) > 0
        ends, marks = self._columns["ends"], self._columns["marks"]
        numbers = map(self._number, range(len(self)))
        return any(trained[marks[ends[number] : ends[number + 1]]].any() for number in numbers)

    @overload
    def __getitem__(self, index: int) -> TokenSequence: ...
    @overload
    def __getitem__(self, index: slice) -> list[TokenSequence]: ...
    def __getitem__(self, index: int | slice) -> TokenSequence | list[TokenSequence]:
        places = range(len(self))[index]
        return [self[place] for place in places] if isinstance(places, range) else self._sample(self._number(places))

    def _number(self, place: int) -> int:
        return place if self._chosen is None else int(self._chosen[place])

    def _sample(self, number: int) -> TokenSequence:
        columns = self._columns
        start, stop = columns["ends"][number : number + 2].tolist()
        marks = columns["marks"][start:stop].tolist()
        shares = [self._names.shares[mark] for mark in marks]
        file = int(columns["files"][number])
        return TokenSequence(
            tuple(columns["ids"][start:stop].tolist()),
            tuple([share > 0 for share in shares]),
            None if file == _NOWHERE else Source(self._names.files[file], int(columns["lines"][number])),
            weight=float(columns["weights"][number]),
            shares=tuple(shares) if marks[0] >= _OF_SHARES else None,
        )


class CorpusBuilder:
    """Takes samples one at a time.

    Args:
        folder: where to write them, a few at a time; they stay in memory unless it is given.
    """

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder
        self._columns: dict[str, array[Any]] = {name: array(code) for name, code in COLUMNS.items()}
        self._columns["ends"].append(0)
        self._tokens = self._rows = 0
        self._files: dict[str, int] = {}
        self._shares: list[float] = [0.0, 1.0]  # the first two for samples without shares
        self._marks: dict[float, int] = {}

    def append_row(self, samples: Iterable[TokenSequence], *, key: int = 0, origin: int = 0) -> None:
        """Add a row, with the samples that it is made to; there may be none."""
        columns = self._columns
        columns["keys"].append(key)
        columns["origins"].append(origin)
        for sample in samples:
            self._append(sample)
        self._rows += 1
        if self._folder and len(columns["ids"]) + len(columns["keys"]) >= _FLUSHED:
            self._flush(self._folder)

    def _append(self, sample: TokenSequence) -> None:
        columns, shares, source = self._columns, sample.shares, sample.source
        columns["ids"].frombytes(struct.pack(f"{len(sample)}{COLUMNS['ids']}", *sample.ids))
        columns["marks"].frombytes(bytes(sample.trained if shares is None else map(self._mark, shares)))
        self._tokens += len(sample)
        columns["ends"].append(self._tokens)
        columns["weights"].append(sample.weight)
        columns["rows"].append(self._rows)
        columns["files"].append(self._files.setdefault(source.path, len(self._files)) if source else _NOWHERE)
        columns["lines"].append(source.line if source else 0)

    def finish(self) -> Corpus:
        """All the samples that were added."""
        names = Names(list(self._files), self._shares)
        if self._folder is None:
            return Corpus({name: np.asarray(memoryview(column)) for name, column in self._columns.items()}, names)
        self._flush(self._folder)
        index = json.dumps({"files": names.files, "shares": names.shares}, ensure_ascii=False)
        (self._folder / _INDEX).write_text(index + "\n", encoding="utf-8")
        return Corpus.open(self._folder)

    def _mark(self, share: float) -> int:
        if share not in self._marks:
            self._marks[share] = len(self._shares)
            self._shares.append(share)
        return self._marks[share]

    def _flush(self, folder: Path) -> None:
        for name, column in self._columns.items():
            with (folder / name).open("ab") as file:
                column.tofile(file)
            del column[:]


def lengths_of(sequences: Sequence[TokenSequence]) -> Numbers:
    """Tokens of each sequence (N,)."""
    if isinstance(sequences, Corpus):
        return sequences.lengths
    return np.fromiter(map(len, sequences), dtype=np.int32, count=len(sequences))


def _mapped(file: Path, code: str) -> NDArray[Any]:
    # An empty file cannot be mapped.
    return np.memmap(file, dtype=code, mode="r") if file.stat().st_size else np.zeros(0, dtype=code)
