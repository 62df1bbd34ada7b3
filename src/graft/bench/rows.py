"""Encoded rows: the file in which every contender is given them, and the order in which it takes them."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from transformers.trainer_pt_utils import get_length_grouped_indices

from graft.data import read_rows
from graft.errors import DataError
from graft.records import Row, TokenSequence
from graft.runtime import derived_seed
from graft.training import Batches

KEYS = {"ids", "trained"}
_BATCHES_GROUPED = 50
"""Batches that `transformers` sorts by length together. It takes fewer for data sets below 1600 rows of a batch of 8,
and hardly groups at all for those of a quick bench; 50 is what it does in a run."""


class InOrder(Batches):
    """The rows as they stand, once: the order was settled for all contenders."""

    def __init__(self, sequences: Sequence[TokenSequence], *, global_batch: int) -> None:
        super().__init__(sequences, global_batch=global_batch, epochs=1, max_steps=0, seed=0)
        self._rows, self._size = sequences, global_batch

    def of_step(self, step: int) -> list[TokenSequence]:
        return list(self._rows[(step - 1) * self._size : step * self._size])


def grouped_by_length(sequences: Sequence[TokenSequence], *, global_batch: int, seed: int) -> list[TokenSequence]:
    """The rows in the order of `train_sampling_strategy="group_by_length"` of `transformers`."""
    generator = torch.Generator().manual_seed(derived_seed(seed, "grouped"))
    order = get_length_grouped_indices(
        [len(sequence) for sequence in sequences], global_batch, mega_batch_mult=_BATCHES_GROUPED, generator=generator
    )
    return [sequences[i] for i in order]


def is_encoded(rows: Sequence[Row]) -> bool:
    """Whether these rows are token ids already."""
    return rows[0].fields.keys() >= KEYS


def read_encoded(rows: Iterable[Row]) -> list[TokenSequence]:
    """The samples of rows `{"ids": [...], "trained": [0, 1, ...]}`.

    Raises:
        DataError: a row is not of this form; with file and line.
    """
    return [_sample(row) for row in rows]


def load_encoded(path: Path) -> list[TokenSequence]:
    """The samples of a file of encoded rows."""
    return read_encoded(read_rows(str(path)))


def write_encoded(path: Path, sequences: Iterable[TokenSequence]) -> None:
    """Write what `load_encoded` reads, a row a line."""
    with path.open("w", encoding="utf-8") as file:
        for sequence in sequences:
            row = {"ids": list(sequence.ids), "trained": [int(trained) for trained in sequence.trained]}
            file.write(f"{json.dumps(row)}\n")


def _sample(row: Row) -> TokenSequence:
    ids, trained = _whole_numbers(row, "ids"), _whole_numbers(row, "trained")
    if not set(trained) <= {0, 1}:
        raise DataError(f"{row.source}: `trained` holds something else than 0 and 1", fix="mend or remove this row")
    if len(ids) != len(trained) or trained[0] or not any(trained):
        what = f"{len(ids)} ids, {len(trained)} marks in `trained`, {sum(trained)} of them 1, the first {trained[0]}"
        raise DataError(
            f"{row.source}: {what}", fix="give a mark for each id: the first 0, as nothing predicts it, and some 1"
        )
    return TokenSequence(tuple(ids), tuple(map(bool, trained)), row.source)


def _whole_numbers(row: Row, key: str) -> list[int]:
    value = row.fields.get(key)
    if not isinstance(value, list) or not value or not all(type(item) is int and item >= 0 for item in value):
        what = f"{row.source}: `{key}` is no list of whole numbers from 0 on"
        raise DataError(what, fix="mend or remove this row")
    return value
