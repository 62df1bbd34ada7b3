"""Memory does not do: smaller forests, the same update, and nothing counted twice."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from graft.errors import RunError
from graft.forest import backward_edge_loss
from graft.records import Source, TokenSequence
from graft.training import Event, Stepped, Training, Warned
from graft.training.memory import Room
from tests.training.test_loop import steps, training, weights

Break = Callable[[int], None]


@pytest.fixture
def only(monkeypatch: pytest.MonkeyPatch) -> Break:
    """Make memory do for forests of so many tokens, and no more: the others break off in the backward pass."""

    def limit(tokens: int) -> None:
        def breaking(heads: Any, hidden: torch.Tensor, edges: Any) -> float:
            loss = backward_edge_loss(heads, hidden, edges)  # what it has left in the gradients must not stay there
            if len(hidden) > tokens:
                raise torch.OutOfMemoryError(f"CUDA out of memory. Tried to allocate {len(hidden)} bytes.\nA hint.")
            return loss

        monkeypatch.setattr("graft.training.gradient.backward_edge_loss", breaking)

    return limit


def heard(run: Training, **resumed: Any) -> list[Event]:
    events: list[Event] = []
    run.subscribers = [events.append]
    run.run(**resumed)
    return events


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_smaller_forests_come_to_the_same_update(only: Break, dropout: float) -> None:
    whole = training(dropout=0.0)
    expected = steps(whole)
    only(60)
    short = training(dropout=dropout)
    events = heard(short)
    done = [event for event in events if isinstance(event, Stepped)]
    warned = [event for event in events if isinstance(event, Warned)]
    assert done[-1].max_tokens is not None
    assert done[-1].max_tokens <= 60
    assert "memory did not do for a forest of " in str(warned[0])
    assert "CUDA out of memory. Tried to allocate" in str(warned[0])
    assert "A hint" not in str(warned[0])
    assert [str(w) for w in warned] == [text for step in done for text in step.warnings or []]
    if not dropout:
        assert [s.loss for s in done] == pytest.approx([s.loss for s in expected], rel=1e-6)
        assert [s.grad_norm for s in done] == pytest.approx([s.grad_norm for s in expected], rel=1e-6)
        for name, tensor in weights(whole).items():
            assert (weights(short)[name] - tensor).norm() <= 1e-6 * tensor.norm()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_step_is_to_the_bit_what_it_is_where_forests_are_small_from_the_start(only: Break, dropout: float) -> None:
    """So a run that is resumed with the lowered size gives the same bits."""
    only(60)
    short = training(dropout=dropout, dtype=torch.float32)
    done = steps(short)
    assert len({step.max_tokens for step in done}) == 1, "it is lowered in the first step, which is the heaviest"
    small = training(dropout=dropout, dtype=torch.float32, max_tokens=done[0].max_tokens or 0)
    assert [s.loss for s in steps(small)] == [s.loss for s in done]
    assert all(torch.equal(weights(small)[name], tensor) for name, tensor in weights(short).items())


def test_a_resumed_run_keeps_the_lowered_size(only: Break) -> None:
    only(60)
    run = training()
    done = steps(run)
    lines = [{"step": 1, "loss": 1.0, "max_tokens": done[0].max_tokens}]
    resumed = training()
    resumed.recall(lines)
    again = [event for event in heard(resumed, done=1) if isinstance(event, Stepped)]
    assert {step.max_tokens for step in again} == {done[0].max_tokens}
    assert not any(step.warnings for step in again)


def test_a_sample_that_does_not_fit_by_itself_is_named(only: Break) -> None:
    long = TokenSequence(tuple(range(1, 41)), (False,) + (True,) * 39, Source("rows.json", 5))
    only(30)
    with pytest.raises(RunError) as caught:
        training(
            sequences=[long, *(TokenSequence((1, 2), (False, True), Source("rows.json", n)) for n in (6, 7))]
        ).run()
    assert "rows.json:5: memory does not do for a sample of 40 tokens by itself" in str(caught.value)
    assert "train.recompute=1, or data.cutoff below 40" in str(caught.value)


def test_another_error_is_not_taken_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*parts: Any) -> float:
        raise RuntimeError("an error of ours")

    monkeypatch.setattr("graft.training.gradient.backward_edge_loss", failing)
    with pytest.raises(RuntimeError, match="an error of ours"):
        training().run()


def room_for(tokens: int) -> Room:
    """As much as forests of so many tokens take, a megabyte each, of which one of 10 is known."""
    room = Room(torch.device("cpu"), free=lambda: int(tokens * 1e6 * 1.25) + (64 << 20))
    room.tokens, room._taken = 10, 10_000_000
    return room


def test_on_a_cpu_forests_are_cut_before_they_are_run() -> None:
    whole, watched = training(), training()
    expected = steps(whole)
    watched.room = room_for(60)
    done = steps(watched)
    assert done[-1].max_tokens is not None
    assert done[-1].max_tokens <= 60
    assert "it needs " in str(done[0].warnings)
    assert [s.loss for s in done] == pytest.approx([s.loss for s in expected], rel=1e-6)


def test_on_a_cpu_too_a_sample_that_would_not_fit_is_named_before_the_kernel_kills() -> None:
    run = training()
    run.room = room_for(1)
    with pytest.raises(RunError, match=r"memory does not do for a sample of \d+ tokens by itself: it needs"):
        run.run()


def test_a_run_measures_small_forests_first_and_comes_to_the_same_bits() -> None:
    """What is measured before the first step leaves no trace in it."""
    blind, seeing = training(dropout=0.3, dtype=torch.float32), training(dropout=0.3, dtype=torch.float32)
    blind.room.watches = False
    assert seeing.room.watches
    assert [s.loss for s in steps(blind)] == [s.loss for s in steps(seeing)]
    assert all(torch.equal(weights(blind)[name], tensor) for name, tensor in weights(seeing).items())
    assert seeing.room.tokens > 0
