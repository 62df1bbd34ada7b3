"""Which rows are kept from training, to measure on, and how often the others are taken. R = rows."""

import random
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from graft.data.keys import Keys, draw
from graft.errors import DataError
from graft.runtime import derived_seed

Chosen = NDArray[np.bool_]

_BLOCK = 2**18  # rows


def hold_out(keys: Keys, *, held_out: float, seed: int) -> Chosen:
    """Choose the rows to measure on (R,): a share below 1 (at least one row), or a count; 0 for none.

    Rows are drawn by what they say: copies of a row go the same way, and a row that is added or removed moves no more
    than one other, wherever it stands. Where that many rows would part copies, fewer are kept.

    Args:
        keys: what each row says, as a number (R,).

    Raises:
        DataError: nothing would be left to train on.
    """
    count = int(held_out) if held_out >= 1 else max(1, round(held_out * len(keys))) if held_out else 0
    if count >= len(keys):
        what = f"data.held_out {held_out:g} leaves nothing of {len(keys)} rows to train on"
        raise DataError(what, fix="set data.held_out lower, or to 0 for none")
    if not count:
        return np.zeros(len(keys), dtype=bool)
    chosen = _choose(keys, count, 0, seed)
    if not chosen.any():  # the lowest are copies of one row
        numbers, copies = np.unique(draw(keys, seed), return_counts=True)
        few = numbers[copies <= count]
        if not len(few):
            what = f"every one of {len(keys)} rows has more copies than data.held_out {held_out:g} keeps"
            raise DataError(what, fix="set data.held_out to 0, or leave copies out: `graft data check --fix`")
        chosen = _choose(keys, count, int(few[0]), seed)
    return chosen


def _choose(keys: Keys, count: int, first: int, seed: int) -> Chosen:
    """The rows (R,) with the lowest numbers from `first` on: `count` of them, but for those that would part copies."""
    last = int(_lowest(keys, count, first, seed).max())
    chosen = _between(keys, first, last, seed)
    return chosen if chosen.sum() <= count else _between(keys, first, last - 1, seed)


def _lowest(keys: Keys, count: int, first: int, seed: int) -> Keys:
    """The lowest of the numbers drawn, from `first` on: `count` of them, or all where there are fewer."""
    lowest: Keys = np.zeros(0, dtype=np.uint64)
    for drawn in _drawn(keys, seed):
        lowest = np.concatenate([lowest, drawn[drawn >= first]])
        if len(lowest) > count:
            lowest = np.partition(lowest, count - 1)[:count]
    return lowest


def _between(keys: Keys, first: int, last: int, seed: int) -> Chosen:
    return np.concatenate([(first <= drawn) & (drawn <= last) for drawn in _drawn(keys, seed)])


def _drawn(keys: Keys, seed: int) -> Iterator[Keys]:
    """The numbers of a block of rows after the other, as those of millions at once would take much memory."""
    return (draw(keys[start : start + _BLOCK], seed) for start in range(0, len(keys), _BLOCK))


def mix_counts(shares: NDArray[np.float64], *, seed: int) -> NDArray[np.int64]:
    """How often each row is taken (R,): a share of 2 is twice, 0.5 is taken or left by a draw that its number alone
    decides, so that another share or another row changes nothing for it."""
    counts = np.floor(shares).astype(np.int64)
    for number in np.flatnonzero(shares > counts).tolist():
        counts[number] += random.Random(derived_seed(seed, "mix", number)).random() < shares[number] - counts[number]
    return counts
