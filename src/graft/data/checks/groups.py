"""Rows with equal keys, found by sorting: tens of bytes a row, for a moment. R = rows, N = those found."""

import numpy as np
from numpy.typing import NDArray

Numbers = NDArray[np.int64]
Chosen = NDArray[np.bool_]


def crowded(keys: NDArray[np.uint64], among: Chosen) -> tuple[Numbers, Numbers]:
    """The rows (N,) whose key another one has too, group by group and ascending in each, and the number of the group of
    each (N,).

    Args:
        keys: one a row (R,).
        among: the rows that are asked about (R,).
    """
    numbers = np.flatnonzero(among)
    key = keys[numbers]
    order = np.argsort(key, kind="stable")
    key = key[order]
    new = np.ones(len(key) + 1, dtype=bool)  # the key differs from the one before
    np.not_equal(key[1:], key[:-1], out=new[1:-1])
    del key
    several = ~(new[:-1] & new[1:])
    return numbers[order[several]], np.cumsum(new[:-1][several]) - 1


def leaders(numbers: Numbers, groups: Numbers) -> tuple[Numbers, Chosen]:
    """The first row of the group of each (N,), and whether it is that row itself (N,)."""
    begins = np.diff(groups, prepend=-1) > 0
    return numbers[begins][np.cumsum(begins) - 1], begins


def first_of(keys: NDArray[np.uint64], among: Chosen) -> Numbers:
    """The number of the first row (R,) with the key of a row; its own where it is not among those that are asked about.

    Args:
        keys: 128 bits made of what is compared (R, 2). That any two of 5 million rows agree by chance is less likely
            than 1 in 10**25.
    """
    first = np.arange(len(keys))
    numbers, groups = crowded(keys[:, 0], among)
    leading, _ = leaders(numbers, groups)
    # Halves that agree where others do not are too rare to be worth groups of their own, but they are no copies.
    agreeing = keys[numbers, 1] == keys[leading, 1]
    first[numbers[agreeing]] = leading[agreeing]
    return first
