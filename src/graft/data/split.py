"""Which rows are kept from training, to measure on, and how often the others are taken. R = rows."""

import random

import numpy as np
from numpy.typing import NDArray

from graft.data.keys import Keys, draw
from graft.errors import DataError
from graft.runtime import derived_seed

Chosen = NDArray[np.bool_]

_PASSED_OVER = np.uint64(2**64 - 1)


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
    drawn = draw(keys, seed)
    chosen = np.zeros(len(keys), dtype=bool)
    while not chosen.any():
        last = np.partition(drawn, count - 1)[count - 1]
        if last == _PASSED_OVER:
            what = f"every one of {len(keys)} rows has more copies than data.held_out {held_out:g} keeps"
            raise DataError(what, fix="set data.held_out to 0, or leave copies out: `graft data check --fix`")
        chosen = drawn <= last
        if chosen.sum() > count:  # the last ones are copies
            chosen = drawn < last
            drawn[drawn == last] = _PASSED_OVER
    return chosen


def mix_counts(shares: NDArray[np.float64], *, seed: int) -> NDArray[np.int64]:
    """How often each row is taken (R,): a share of 2 is twice, 0.5 is taken or left by a draw that its number alone
    decides, so that another share or another row changes nothing for it."""
    counts = np.floor(shares).astype(np.int64)
    for number in np.flatnonzero(shares > counts).tolist():
        counts[number] += random.Random(derived_seed(seed, "mix", number)).random() < shares[number] - counts[number]
    return counts
