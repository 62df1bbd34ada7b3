import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from graft.config import TrainConfig
from graft.errors import RunError
from graft.training import build_optimizer, learning_rate
from graft.training.optimizer import optimizer_tensors, restore_optimizer

SCHEDULES = ("constant", "linear", "cosine")


def rates(schedule: str, warmup: int, total: int, peak: float = 2.0) -> list[float]:
    settings = TrainConfig.model_validate({"schedule": schedule, "warmup_steps": warmup, "learning_rate": peak})
    return [learning_rate(step, total, settings) for step in range(1, total + 1)]


@given(st.sampled_from(SCHEDULES), st.integers(0, 300), st.integers(1, 200))
def test_the_rate_rises_to_the_peak_falls_from_there_and_is_never_0(schedule: str, warmup: int, total: int) -> None:
    found = rates(schedule, warmup, total)
    assert all(0 < rate <= 2.0 for rate in found)
    top = found.index(max(found))
    assert all(a < b for a, b in pairwise(found[: top + 1]))
    assert all(a >= b for a, b in pairwise(found[top:]))
    if warmup:
        assert max(found) == 2.0


@given(st.sampled_from(SCHEDULES), st.integers(1, 20), st.integers(200, 400))
def test_the_warm_up_is_linear_and_ends_at_its_last_step(schedule: str, warmup: int, total: int) -> None:
    found = rates(schedule, warmup, total)
    assert found[:warmup] == pytest.approx([2.0 * step / warmup for step in range(1, warmup + 1)])
    assert found[warmup - 1] == 2.0


@pytest.mark.parametrize(
    ("schedule", "warmup", "total", "expected"),
    [
        ("constant", 0, 3, [2, 2, 2]),
        ("constant", 1, 10, [2] * 10),
        ("linear", 0, 3, [1.5, 1, 0.5]),
        ("linear", 1, 10, [2, 1.8, 1.6, 1.4, 1.2, 1, 0.8, 0.6, 0.4, 0.2]),
        ("cosine", 0, 3, [1 + math.sqrt(0.5), 1, 1 - math.sqrt(0.5)]),
        ("cosine", 0, 1, [1]),
    ],
)
def test_the_schedules_by_hand(schedule: str, warmup: int, total: int, expected: list[float]) -> None:
    assert rates(schedule, warmup, total) == pytest.approx(expected)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_warm_up_longer_than_the_run_only_rises_and_ends_at_the_peak(schedule: str) -> None:
    assert rates(schedule, 1000, 4) == pytest.approx([0.5, 1.0, 1.5, 2.0])


class Parts(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.matrix = nn.Parameter(torch.ones(2, 2))
        self.vector = nn.Parameter(torch.ones(2))

    def step(self, optimizer: torch.optim.Optimizer, gradient: float = 0.0) -> None:
        for parameter in self.parameters():
            parameter.grad = torch.full_like(parameter, gradient)
        optimizer.step()


def test_weight_decay_shrinks_matrices_only() -> None:
    parts = Parts()
    optimizer = build_optimizer(list(parts.named_parameters()), TrainConfig(learning_rate=0.1, weight_decay=0.5))
    parts.step(optimizer)
    assert parts.matrix[0, 0].item() == pytest.approx(1 - 0.1 * 0.5)
    assert parts.vector[0].item() == 1


def test_a_restored_optimizer_steps_to_the_same_bits() -> None:
    settings = TrainConfig(learning_rate=0.1)
    parts, again = Parts(), Parts()
    named, named_again = list(parts.named_parameters()), list(again.named_parameters())
    optimizer, fresh = build_optimizer(named, settings), build_optimizer(named_again, settings)
    for gradient in (0.3, -0.2, 0.7):
        parts.step(optimizer, gradient)
    again.load_state_dict(parts.state_dict())
    restore_optimizer(fresh, named_again, optimizer_tensors(optimizer, named))
    parts.step(optimizer, 0.4)
    again.step(fresh, 0.4)
    assert all(torch.equal(a, b) for a, b in zip(parts.parameters(), again.parameters(), strict=True))


def test_the_state_of_other_parameters_is_refused() -> None:
    parts = Parts()
    named = list(parts.named_parameters())
    optimizer = build_optimizer(named, TrainConfig())
    parts.step(optimizer)
    tensors = optimizer_tensors(optimizer, named)
    del tensors["vector.exp_avg"]
    with pytest.raises(RunError, match=r"vector\.exp_avg"):
        restore_optimizer(optimizer, named, tensors)
