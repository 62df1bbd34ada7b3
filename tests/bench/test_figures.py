import math

import pytest

from graft.bench.figures import TOLERANCES, Work, figures, largest_difference
from graft.bench.turn import Lap, Ran
from graft.errors import ProofError

WORK = [Work(samples=4, tokens_logical=100, tokens_trained=60, needed_flops=1000)] * 2 + [
    Work(samples=2, tokens_logical=40, tokens_trained=30, needed_flops=500)
]


def laps(*losses: float) -> list[Lap]:
    return [Lap(loss, 1.0, 0.5, 120) for loss in losses]


def turn(*seconds: float, peak: int = 0) -> Ran:
    return Ran([Lap(3.0, 1.0, second, 120) for second in seconds], peak, 0)


def test_the_first_step_is_not_timed_and_the_others_by_their_median() -> None:
    turns = [turn(99.0, 2.0, 1.0, peak=5), turn(50.0, 3.0, 9.0, peak=7), turn(50.0, 9.0, 2.0, peak=6)]
    found = figures(turns, WORK, limit=1000.0, beside=None, loss_difference=None)
    assert found.samples_per_s == 6 / (3.0 + 2.0)
    assert found.tokens_logical_per_s == 140 / 5
    assert found.tokens_executed_per_s == 240 / 5
    assert found.tokens_trained_per_s == 90 / 5
    assert found.limit_share == 1500 / 5 / 1000
    assert found.peak_memory_bytes == 7
    assert found.rounds == [6 / 3, 6 / 12, 6 / 11]
    assert len(found.losses) == 3


@pytest.mark.parametrize("dtype", TOLERANCES)
def test_losses_within_the_tolerance_agree(dtype: str) -> None:
    off = TOLERANCES[dtype]
    found = largest_difference("peer", laps(2.0, 4.0 * (1 + off / 2)), "graft", laps(2.0, 4.0), dtype)
    assert found == pytest.approx(off / 2)


@pytest.mark.parametrize("dtype", TOLERANCES)
@pytest.mark.parametrize("step", [1, 2])
def test_a_loss_beyond_it_is_named(dtype: str, step: int) -> None:
    theirs = [2.0, 4.0]
    theirs[step - 1] *= 1 + 2 * TOLERANCES[dtype]
    with pytest.raises(ProofError, match=f"step {step}: the loss of peer is {theirs[step - 1]:.6f}") as raised:
        largest_difference("peer", laps(*theirs), "graft", laps(2.0, 4.0), dtype)
    assert raised.value.exit_code == 3


def test_what_is_no_number_agrees_with_nothing() -> None:
    with pytest.raises(ProofError, match="step 1"):
        largest_difference("peer", laps(math.nan), "graft", laps(2.0), "bfloat16")


def test_a_step_more_is_another_training() -> None:
    with pytest.raises(ProofError, match="peer took 2 steps and graft 1"):
        largest_difference("peer", laps(2.0, 2.0), "graft", laps(2.0), "float32")
