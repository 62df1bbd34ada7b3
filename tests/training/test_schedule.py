import math
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.config import TrainConfig
from graft.training import learning_rate

PEAK = 2.0
SCHEDULES = st.one_of(
    st.just({"schedule": "constant"}),
    st.fixed_dictionaries(
        {"schedule": st.sampled_from(["linear", "cosine"]), "min_learning_rate_ratio": st.floats(0, 1)}
    ),
    st.fixed_dictionaries({"schedule": st.just("step"), "step_gamma": st.floats(0.1, 1)}),
)


def rates(schedule: str | dict[str, Any], warmup: int, total: int, per_epoch: int = 1000) -> list[float]:
    shape = {"schedule": schedule} if isinstance(schedule, str) else schedule
    settings = TrainConfig.model_validate({**shape, "warmup_steps": warmup, "learning_rate": PEAK})
    return [learning_rate(step, total, settings, steps_per_epoch=per_epoch) for step in range(1, total + 1)]


@given(SCHEDULES, st.integers(0, 300), st.integers(1, 200), st.integers(1, 60))
def test_the_rate_rises_to_the_peak_falls_from_there_and_is_never_0(
    schedule: dict[str, Any], warmup: int, total: int, per_epoch: int
) -> None:
    found = rates(schedule, warmup, total, per_epoch)
    assert all(0 < rate <= PEAK for rate in found)
    top = found.index(max(found))
    assert all(a < b for a, b in pairwise(found[: top + 1]))
    assert all(a >= b for a, b in pairwise(found[top:]))
    if warmup:
        assert max(found) == PEAK
        assert top == min(warmup, total) - 1


@given(SCHEDULES, st.integers(1, 20), st.integers(200, 400), st.integers(1, 60))
def test_the_warm_up_is_linear_and_ends_at_its_last_step(
    schedule: dict[str, Any], warmup: int, total: int, per_epoch: int
) -> None:
    found = rates(schedule, warmup, total, per_epoch)
    assert found[:warmup] == pytest.approx([PEAK * step / warmup for step in range(1, warmup + 1)])
    assert found[warmup - 1] == PEAK


@given(st.sampled_from(["linear", "cosine"]), st.floats(0, 1), st.integers(0, 20), st.integers(1, 200))
def test_no_rate_after_the_warm_up_is_below_the_ratio(schedule: str, ratio: float, warmup: int, total: int) -> None:
    found = rates({"schedule": schedule, "min_learning_rate_ratio": ratio}, warmup, total)
    assert all(rate >= PEAK * ratio for rate in found[max(warmup - 1, 0) :])


@pytest.mark.parametrize(
    ("schedule", "warmup", "total", "expected"),
    [
        ("constant", 0, 3, [2, 2, 2]),
        ("constant", 1, 10, [2] * 10),
        ("linear", 0, 3, [1.5, 1, 0.5]),
        ("linear", 1, 10, [2, 1.8, 1.6, 1.4, 1.2, 1, 0.8, 0.6, 0.4, 0.2]),
        ("cosine", 0, 3, [1 + math.sqrt(0.5), 1, 1 - math.sqrt(0.5)]),
        ("cosine", 0, 1, [1]),
        ({"schedule": "linear", "min_learning_rate_ratio": 0.5}, 0, 3, [1.75, 1.5, 1.25]),
        ({"schedule": "cosine", "min_learning_rate_ratio": 0.1}, 1, 4, [2, 1.73640, 1.1, 0.46360]),
        ({"schedule": "linear", "min_learning_rate_ratio": 1}, 0, 3, [2, 2, 2]),
    ],
)
def test_the_schedules_by_hand(schedule: Any, warmup: int, total: int, expected: list[float]) -> None:
    assert rates(schedule, warmup, total) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(
    ("warmup", "expected"),
    [
        (0, [2, 2, 2, 1, 1, 1, 0.5, 0.5]),
        (2, [1, 2, 2, 1, 1, 1, 0.5, 0.5]),
        (4, [0.5, 1, 1.5, 2, 2, 2, 1, 1]),  # the first epoch ends within the warm-up
    ],
)
def test_step_takes_its_factor_after_each_epoch(warmup: int, expected: list[float]) -> None:
    assert rates({"schedule": "step", "step_gamma": 0.5}, warmup, 8, per_epoch=3) == pytest.approx(expected)


def test_step_without_a_warm_up_is_the_step_lr_of_pytorch() -> None:
    import torch

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=PEAK)
    per_epoch, expected = 4, []
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.85)
    for _ in range(3):
        expected += [optimizer.param_groups[0]["lr"]] * per_epoch
        optimizer.step()
        schedule.step()
    assert rates("step", 0, 12, per_epoch) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine", "step"])
def test_a_warm_up_longer_than_the_run_only_rises_and_ends_at_the_peak(schedule: str) -> None:
    assert rates(schedule, 1000, 4, per_epoch=2) == pytest.approx([0.5, 1.0, 1.5, 2.0])
