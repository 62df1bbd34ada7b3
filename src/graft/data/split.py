"""Which rows are kept from training, to measure on, and how often the others are taken. R = rows."""

import random

import numpy as np
from numpy.typing import NDArray

from graft.data.keys import Keys, draw
from graft.errors import DataError
from graft.runtime import derived_seed

Chosen = NDArray[np.bool_]


def hold_out(keys: Keys, *, held_out: float, seed: int) -> Chosen:
    """Choose the rows to measure on (R,): a share below 1 (at least one row), or a count; 0 for none.

    Rows are drawn by what they say: copies of a row go the same way, and a row that is added or removed moves no more
    than one other, wherever it stands. Where copies cannot be told apart otherwise, fewer rows than asked for are kept.

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
    said, of_row, copies = np.unique(keys, return_inverse=True, return_counts=True)
    order = np.argsort(draw(said, seed), kind="stable")
    taken = np.zeros(len(said), dtype=bool)
    room = count
    for place in order.tolist():
        if copies[place] <= room:
            taken[place] = True
            room -= int(copies[place])
            if not room:
                break
    if not taken.any():
        what = f"every one of {len(keys)} rows has more copies than data.held_out {held_out:g} keeps"
        raise DataError(what, fix="set data.held_out to 0, or leave copies out: `graft data check --fix`")
    chosen: Chosen = taken[of_row]
    return chosen


def mix_counts(shares: NDArray[np.float64], *, seed: int) -> NDArray[np.int64]:
    """How often each row is taken (R,): a share of 2 is twice, 0.5 is taken or left by a draw that its number alone
    decides, so that another share or another row changes nothing for it."""
    counts = np.floor(shares).astype(np.int64)
    for number in np.flatnonzero(shares > counts).tolist():
        counts[number] += random.Random(derived_seed(seed, "mix", number)).random() < shares[number] - counts[number]
    return counts
