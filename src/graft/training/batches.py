"""Which samples each optimizer step takes."""

import math
import random
from array import array
from collections.abc import Sequence

import numpy as np

from graft.data import lengths_of
from graft.errors import DataError
from graft.records import TokenSequence
from graft.runtime import derived_seed


class Batches:
    """The samples of every step, by its number: a run that begins in the middle takes what it would have taken.

    Each epoch has an order of its own, made of the seed and its number; its last batch may be smaller. The very first
    batch is the one of its epoch with the most tokens, so that running out of memory shows at once.

    Args:
        max_steps: steps at most; 0 for no bound but `epochs`.
    """

    def __init__(
        self, sequences: Sequence[TokenSequence], *, global_batch: int, epochs: int, max_steps: int, seed: int
    ) -> None:
        self._sequences = sequences
        self._lengths = lengths_of(sequences)
        self._global_batch = global_batch
        self._seed = seed
        self.steps_per_epoch = math.ceil(len(sequences) / global_batch)
        steps = self.steps_per_epoch * epochs
        self.total_steps = min(steps, max_steps) if max_steps else steps
        self._epoch = -1
        self._order = array("i")
        self._first = 0

    def check_fit(self, max_tokens: int, *, virtual_tokens: int = 0) -> None:
        """Raise a DataError if a sample, behind so many virtual tokens, is longer than a forest may be."""
        needed = int(self._lengths.max()) + virtual_tokens
        if needed > max_tokens:
            longest = self._sequences[int(self._lengths.argmax())]
            more = f" behind {virtual_tokens} virtual ones" if virtual_tokens else ""
            what = f"{longest.source}: a sample of {len(longest)} tokens{more} is above train.max_tokens {max_tokens}"
            raise DataError(what, fix=f"raise train.max_tokens to {needed}, or lower data.cutoff")

    def of_step(self, step: int) -> list[TokenSequence]:
        """The samples of `step`, from 1."""
        epoch, number = divmod(step - 1, self.steps_per_epoch)
        if epoch != self._epoch:
            self._epoch, self._order = epoch, array("i", range(len(self._sequences)))
            random.Random(derived_seed(self._seed, "order", epoch)).shuffle(self._order)
            self._first = self._heaviest() if epoch == 0 else 0
        if number in (0, self._first):  # the two change places
            number = self._first - number
        return [self._sequences[i] for i in self._batch(number)]

    def _batch(self, number: int) -> "array[int]":
        return self._order[number * self._global_batch : (number + 1) * self._global_batch]

    def _heaviest(self) -> int:
        full = max(1, len(self._sequences) // self._global_batch)
        starts = np.arange(full) * self._global_batch
        in_order = self._lengths[np.asarray(self._order)][: full * self._global_batch]
        return int(np.add.reduceat(in_order, starts).argmax())
