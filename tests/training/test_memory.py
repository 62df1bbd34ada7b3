"""What a forest takes is measured, and held against what is free."""

import pytest
import torch

from graft.training.memory import Room

MIB = 1 << 20
CPU = torch.device("cpu")


def run_forest(room: Room, tokens: int, taken: int) -> None:
    """As a forest of so many tokens would take so many bytes, and give them back."""
    with room.measured(tokens):
        torch.ones(taken, dtype=torch.uint8)


def test_nothing_is_known_until_a_forest_was_measured() -> None:
    room = Room(CPU, free=lambda: 0)
    assert room.watches
    assert not room.shortage(10**9)


def test_what_fits_follows_from_what_was_measured() -> None:
    free = [0]
    room = Room(CPU, free=lambda: free[0])
    run_forest(room, 100, 100 * MIB)
    assert room.needed(100) == pytest.approx(125 * MIB, rel=0.1), "a quarter more than was taken"
    assert room.needed(400) == pytest.approx(500 * MIB, rel=0.1)
    free[0] = 260 * MIB
    assert not room.shortage(100)
    assert room.shortage(200).endswith(" MB, and 273 MB are free")


def test_only_larger_forests_are_measured_anew() -> None:
    room = Room(CPU, free=lambda: 0)
    run_forest(room, 100, 100 * MIB)
    run_forest(room, 50, 200 * MIB)
    assert room.tokens == 100
    run_forest(room, 200, 120 * MIB)
    assert room.tokens == 200
    assert room.needed(200) == pytest.approx(150 * MIB, rel=0.1)


def test_a_forest_that_breaks_off_is_not_measured() -> None:
    room = Room(CPU, free=lambda: 0)
    with pytest.raises(MemoryError), room.measured(100):
        raise MemoryError
    assert room.tokens == 0


def test_the_peak_of_the_run_is_that_of_its_largest_forest() -> None:
    room = Room(CPU, free=lambda: 0)
    before = room.peak.bytes()
    run_forest(room, 100, 150 * MIB)
    run_forest(room, 200, 50 * MIB)
    assert room.peak.bytes() >= before + 140 * MIB
