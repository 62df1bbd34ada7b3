"""Rows kept from training, to measure on, and how often the others are taken."""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from graft.errors import DataError
from graft.runtime import derived_seed

T = TypeVar("T")


@dataclass(frozen=True)
class Split(Generic[T]):
    """Both parts keep the order of the file."""

    train: list[T]
    held_out: list[T]


def split(items: Sequence[T], *, held_out: float, seed: int) -> Split[T]:
    """Keep `held_out` of the items apart: a share below 1 (at least one item), or a count; 0 for none.

    Raises:
        DataError: nothing would be left to train on.
    """
    share = max(1, round(held_out * len(items))) if held_out else 0
    count = int(held_out) if held_out >= 1 else share
    if count >= len(items):
        what = f"data.held_out {held_out:g} leaves nothing of {len(items)} rows to train on"
        raise DataError(what, fix="set data.held_out lower, or to 0 for none")
    order = random.Random(derived_seed(seed, "split")).sample(range(len(items)), count)
    chosen = set(order)
    return Split(
        train=[item for index, item in enumerate(items) if index not in chosen],
        held_out=[item for index, item in enumerate(items) if index in chosen],
    )


def mix(items: Sequence[T], shares: Sequence[float], *, seed: int) -> list[T]:
    """Each item as often as its share says: 2 is twice, 0.5 is taken or left by a draw that its number alone decides,
    so that another share or another item changes nothing for it."""
    taken: list[T] = []
    for number, (item, share) in enumerate(zip(items, shares, strict=True)):
        whole = math.floor(share)
        drawn = random.Random(derived_seed(seed, "mix", number)).random() < share - whole
        taken += [item] * (whole + drawn)
    return taken
