"""The loop: one update, however the step is cut; nothing of a bad step reaches the weights."""

import math
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from graft.adapters import METHODS, Bank, Provenance
from graft.config import LoraConfig, TrainConfig
from graft.errors import DataError, DiskError, Interrupted, RunError
from graft.forest import backward_edge_loss
from graft.records import Source, TokenSequence
from graft.runtime import seed_everything
from graft.training import (
    Batches,
    Checkpoints,
    Ended,
    Event,
    Saved,
    Saves,
    State,
    Stepped,
    Training,
    build_optimizer,
    restore,
)
from tests.families import build, samples
from tests.training.conftest import DEVICE, every_optimizer


def training(
    *,
    max_tokens: int = 10_000,
    dropout: float = 0.0,
    sequences: list[TokenSequence] | None = None,
    dtype: torch.dtype = torch.float64,
    global_batch: int = 8,
    recompute: int = 0,
    device: torch.device | None = None,
    **settings: Any,
) -> Training:
    seed_everything(0)
    model = build("llama-gqa", dtype=dtype).to(device)
    bank = Bank(model)
    adapter = METHODS["lora"].create(model, LoraConfig(r=4, lora_dropout=dropout), seed=1)
    for _, parameter in adapter.named_parameters():
        parameter.data = parameter.data.to(dtype)
    slot = bank.add(adapter)
    config = TrainConfig.model_validate({"learning_rate": 1e-2, "weight_decay": 0.1, **settings})
    rows = sequences or [s for s in samples(30, seed=1) if s.trained_tokens]
    return Training(
        bank=bank,
        slot=slot,
        batches=Batches(rows, global_batch=global_batch, epochs=2, max_steps=0, seed=0),
        optimizer=build_optimizer(list(adapter.named_parameters()), config),
        rate=lambda step: config.learning_rate / step,
        max_tokens=max_tokens,
        max_grad_norm=1.0,
        seed=0,
        recompute=recompute,
        offload=False,
        evaluate=None,
        eval_every=0,
    )


def weights(run: Training) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in run.bank.adapters[run.slot].named_parameters()}


def steps(run: Training) -> list[Stepped]:
    heard: list[Event] = []
    run.subscribers = [heard.append]
    run.run()
    return [event for event in heard if isinstance(event, Stepped)]


def test_the_update_does_not_depend_on_how_the_step_is_cut() -> None:
    stem = tuple(range(20))
    long = [TokenSequence(stem + s.ids, (False,) * 20 + s.trained, weight=s.weight) for s in samples(30, seed=1)]
    whole, cut = training(sequences=long), training(sequences=long, max_tokens=60)
    losses, cut_losses = steps(whole), steps(cut)
    assert sum(s.tokens_executed for s in cut_losses) > sum(s.tokens_executed for s in losses), "it was cut"
    assert [s.loss for s in cut_losses] == pytest.approx([s.loss for s in losses], rel=1e-6)
    assert [s.grad_norm for s in cut_losses] == pytest.approx([s.grad_norm for s in losses], rel=1e-6)
    for name, expected in weights(whole).items():
        assert (weights(cut)[name] - expected).norm() <= 1e-6 * expected.norm()


def test_the_loss_is_the_weighted_mean_over_all_trained_tokens() -> None:
    run = training(global_batch=100)
    first = steps(run)[0]
    again = training(global_batch=100)
    total = weight = 0.0
    for sample in again.batches.of_step(1):
        ids = torch.tensor([sample.ids])
        logits = build("llama-gqa", attached=False)(ids).logits[0].log_softmax(-1)
        for place in range(1, len(sample)):
            if sample.trained[place]:
                total -= sample.weight * float(logits[place - 1, sample.ids[place]])
                weight += sample.weight
    assert first.loss == pytest.approx(total / weight, rel=1e-6)


def test_training_lowers_the_loss_and_leaves_the_base_alone() -> None:
    run = training()
    base = {n: p.clone() for n, p in run.bank.model.named_parameters() if ".grafts." not in n}
    done = steps(run)
    assert done[-1].loss < done[0].loss
    assert all(torch.equal(p, base[n]) for n, p in run.bank.model.named_parameters() if n in base)


def test_lora_plus_moves_lora_b_further_and_the_rest_as_before() -> None:
    """AdamW's first step is the rate times the sign of the gradient."""
    plain, plus = (training(weight_decay=0.0, lora_plus_ratio=ratio, global_batch=100) for ratio in (1, 16))
    for run in (plain, plus):
        run.batches.total_steps = 1
        before = weights(run)
        assert [step.lr for step in steps(run)] == [1e-2]
        moved = {name: (tensor - before[name]).abs().max().item() for name, tensor in weights(run).items()}
        expected = 1e-2 if run is plain else 16e-2
        assert [size for name, size in moved.items() if ".lora_B." in name] == pytest.approx([expected] * 21, rel=1e-3)
        assert not any(size for name, size in moved.items() if ".lora_A." in name), "its first gradient is 0"


def test_the_ratio_of_lora_plus_holds_through_the_schedule() -> None:
    run = training(lora_plus_ratio=16)
    rates: list[tuple[float, set[float]]] = []

    def hear(event: Event) -> None:
        if isinstance(event, Stepped):
            rates.append((event.lr, {group["lr"] for group in run.optimizer.param_groups}))

    run.subscribers = [hear]
    run.run()
    assert len({rate for rate, _ in rates}) > 1
    assert all(groups == {rate, 16 * rate} for rate, groups in rates)


def test_figures_of_a_step_count_its_samples() -> None:
    run = training()
    for record in steps(run):
        batch = run.batches.of_step(record.step)
        assert record.samples == len(batch)
        assert record.tokens_logical == sum(map(len, batch))
        assert record.tokens_trained == sum(s.trained_tokens for s in batch)
        assert 0 < record.tokens_executed <= record.tokens_logical
        assert record.peak_memory_bytes > 0


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_two_runs_are_the_same_to_the_bit(dropout: float) -> None:
    one, other = training(dropout=dropout, dtype=torch.float32), training(dropout=dropout, dtype=torch.float32)
    assert [s.loss for s in steps(one)] == [s.loss for s in steps(other)]
    assert all(torch.equal(weights(other)[name], tensor) for name, tensor in weights(one).items())


@pytest.mark.parametrize("dropout", [0.0, 0.3])
@pytest.mark.parametrize("recompute", [1, 2])
def test_what_is_computed_again_is_the_same_to_the_bit(recompute: int, dropout: float) -> None:
    one, other = training(dropout=dropout), training(dropout=dropout, recompute=recompute)
    assert [s.loss for s in steps(one)] == [s.loss for s in steps(other)]
    assert all(torch.equal(weights(other)[name], tensor) for name, tensor in weights(one).items())


def test_with_dropout_nothing_is_shared() -> None:
    assert all(s.tokens_executed == s.tokens_logical for s in steps(training(dropout=0.1)))


def test_a_loss_that_is_not_finite_stops_before_the_weights_change() -> None:
    good = samples(30, seed=1)
    bad = TokenSequence((1, 2), (False, True), Source("rows.json", 17), weight=math.inf)
    run = training(sequences=[*good, bad], global_batch=3)
    done: list[tuple[int, dict[str, torch.Tensor]]] = []
    run.subscribers = [lambda event: done.append((event.step, weights(run))) if isinstance(event, Stepped) else None]
    with pytest.raises(RunError) as caught:
        run.run()
    assert done, "it failed in a later step"
    step, before = done[-1]
    assert f"step {step + 1}:" in str(caught.value)
    assert f"those of step {step}" in str(caught.value)
    assert "rows.json:17" in str(caught.value)
    assert all(torch.equal(weights(run)[name], tensor) for name, tensor in before.items())


def test_a_step_that_is_broken_off_leaves_nothing_to_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    clean, broken = training(dropout=0.3, max_tokens=60), training(dropout=0.3, max_tokens=60)
    calls = []

    def break_off(*parts: Any) -> float:
        calls.append(backward_edge_loss(*parts))
        if len(calls) == 2:
            raise KeyboardInterrupt
        return calls[-1]

    monkeypatch.setattr("graft.training.gradient.backward_edge_loss", break_off)
    with pytest.raises(KeyboardInterrupt):
        broken.run()
    monkeypatch.undo()
    assert not any(graft.training for graft in broken.bank.adapters[broken.slot].grafts.values()), "dropout is off"
    assert [s.grad_norm for s in steps(broken)] == [s.grad_norm for s in steps(clean)]


def test_the_adapter_in_the_slot_is_the_one_that_trains() -> None:
    run = training()
    run.slot = run.bank.add(METHODS["lora"].create(run.bank.model, LoraConfig(r=2), seed=2))
    parameters = [parameter for _, parameter in run.bank.adapters[run.slot].named_parameters()]
    for parameter in parameters:
        parameter.data = parameter.data.double()
    run.optimizer = build_optimizer(list(run.bank.adapters[run.slot].named_parameters()), TrainConfig())
    before = {name: p.clone() for name, p in run.bank.adapters[0].named_parameters()}
    assert all(step.grad_norm > 0 for step in steps(run))
    assert all(torch.equal(p, before[name]) for name, p in run.bank.adapters[0].named_parameters())
    assert all(parameter.grad is None for _, parameter in run.bank.adapters[0].named_parameters())


def test_a_sample_that_trains_nothing_is_harmless_and_a_step_of_them_is_an_error() -> None:
    silent = [TokenSequence((9, 8, 7), (False,) * 3, Source("rows.json", n)) for n in range(1, 4)]
    loud = [s for s in samples(12, seed=1) if s.trained_tokens]
    mixed = training(sequences=[*loud, *silent], global_batch=99, max_tokens=20)
    assert all(math.isfinite(s.loss) for s in steps(mixed))
    run = training(global_batch=2)
    run.batches = Batches(silent, global_batch=3, epochs=1, max_steps=0, seed=0)
    with pytest.raises(RunError, match=r"step 1: no sample has a token to train on. Its rows: rows\.json:\d"):
        run.run()


def test_a_sample_above_max_tokens_is_named() -> None:
    long = TokenSequence((1,) * 80, (False,) + (True,) * 79, Source("rows.json", 5))
    with pytest.raises(DataError, match=r"rows\.json:5: a sample of 80 tokens is above train\.max_tokens 50"):
        training(max_tokens=50, sequences=[long])


@every_optimizer()
def test_a_resumed_run_ends_in_the_same_bits(name: str, tmp_path: Path) -> None:
    def begin() -> Training:
        return training(dropout=0.2, dtype=torch.float32, device=DEVICE, optimizer=name, lora_plus_ratio=4)

    whole = begin()
    expected = steps(whole)

    def saving(run: Training) -> Checkpoints:
        checkpoints = Checkpoints(tmp_path, keep=2)
        adapter = run.bank.adapters[run.slot]
        origin = Provenance("base", "auto", "print", {}, {})
        run.saves = Saves(
            lambda step, owed: checkpoints.snapshot(State(step, None), adapter, run.optimizer, run.bank.model, origin)
        )
        run.save_every = 2
        return checkpoints

    broken_off = begin()
    checkpoints = saving(broken_off)

    def stop(event: Event) -> None:
        if isinstance(event, Saved) and event.step == 4:
            raise KeyboardInterrupt

    broken_off.subscribers = [stop]
    with pytest.raises(KeyboardInterrupt):
        broken_off.run()

    resumed = begin()
    newest, faults = checkpoints.newest()
    assert newest is not None
    assert not faults
    state = restore(newest, resumed.bank.adapters[resumed.slot], resumed.optimizer)
    assert state.step in (4, 6), "on a busy machine the save after 4 ends when the one after 6 has begun"
    heard: list[Event] = []
    resumed.subscribers = [heard.append]
    resumed.run(done=state.step)
    losses = [event.loss for event in heard if isinstance(event, Stepped)]
    assert losses == [s.loss for s in expected[state.step :]]
    assert all(torch.equal(weights(resumed)[name], tensor) for name, tensor in weights(whole).items())


def test_a_held_out_loss_that_is_no_number_ends_the_run() -> None:
    run = training()
    run.evaluate = lambda: {"loss": math.nan}
    with pytest.raises(RunError, match="held-out loss is nan"):
        run.run()

    def at_fault() -> dict[str, float]:
        raise DataError("the held-out loss is nan. At fault: rows.json:7", fix="look at these rows")

    run.evaluate = at_fault
    with pytest.raises(RunError, match=r"after step 0 the held-out loss is nan\. At fault: rows\.json:7"):
        run.run()


class Disk:
    """Where checkpoints would go: which steps were saved, and which of them are owed their held-out loss."""

    def __init__(self, *, full_at: int = 0) -> None:
        self.saved: list[int] = []
        self.owed: list[Stepped | None] = []
        self._full_at = full_at

    def snapshot(self, step: int, owed: Stepped | None) -> Callable[[], Path]:
        self.owed.append(owed)

        def write() -> Path:
            if step == self._full_at:
                raise DiskError(f"no room for step {step}")
            self.saved.append(step)
            return Path(str(step))

        return write


def saving_run(disk: Disk, hear: Callable[[Event], None], **settings: Any) -> Training:
    run = training(**settings)
    run.saves, run.save_every = Saves(disk.snapshot), 3
    run.subscribers = [hear]
    return run


def test_a_signal_ends_the_run_when_the_step_at_hand_is_done_and_saved() -> None:
    disk, told = Disk(), []

    def hear(event: Event) -> None:
        told.append(event)
        if isinstance(event, Stepped) and event.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    run = saving_run(disk, hear)
    with pytest.raises(Interrupted, match="stopped by SIGTERM after step 4, which is saved") as caught, run.signals:
        run.run()
    assert caught.value.exit_code == 143
    assert disk.saved == [3, 4]
    assert [event.step for event in told if isinstance(event, Stepped)] == [1, 2, 3, 4]
    assert [event.step for event in told if isinstance(event, Saved)] == [3, 4]


def test_a_measurement_is_broken_off_and_its_step_is_owed_it() -> None:
    disk, told = Disk(), []
    measured = []

    def evaluate() -> dict[str, float]:
        measured.append(len(told))
        if len(measured) == 2:
            os.kill(os.getpid(), signal.SIGINT)
            pytest.fail("the measurement goes on")
        return {"loss": 2.0 + len(measured)}

    run = saving_run(disk, told.append)
    run.evaluate, run.eval_every = evaluate, 3
    with pytest.raises(Interrupted, match="stopped by SIGINT after step 3"), run.signals:
        run.run()
    assert disk.saved == [3]
    (owed,) = disk.owed
    assert owed is not None
    assert (owed.step, owed.held_out_loss) == (3, None)
    assert [event.step for event in told if isinstance(event, Stepped)] == [1, 2]

    resumed = saving_run(disk, told.append)
    resumed.evaluate, resumed.eval_every = evaluate, 3
    resumed.run(done=3, owed=owed)
    steps_told = [event for event in told if isinstance(event, Stepped)]
    assert [step.step for step in steps_told] == list(range(1, resumed.batches.total_steps + 1))
    assert steps_told[2] == replace(owed, held_out_loss=5.0)
    assert disk.saved == [3, 6], "what stands is not written again"


def test_a_signal_at_the_very_end_does_not_end_it_twice() -> None:
    disk, told = Disk(), []

    def hear(event: Event) -> None:
        told.append(event)
        if isinstance(event, Ended):
            os.kill(os.getpid(), signal.SIGTERM)

    run = saving_run(disk, hear)
    run.batches.total_steps = run.save_every = 6
    with pytest.raises(Interrupted), run.signals:
        run.run()
    assert disk.saved == [6]
    assert len([event for event in told if isinstance(event, Ended)]) == 1


@pytest.mark.parametrize("step", [3, 6])
def test_a_save_that_fails_ends_the_run_with_its_own_error(step: int) -> None:
    """At the next step, or where the run would end."""
    disk, told = Disk(full_at=step), []
    run = saving_run(disk, told.append)
    run.batches.total_steps = 6
    with pytest.raises(DiskError, match=f"no room for step {step}"):
        run.run()
    assert step not in disk.saved


def test_a_save_that_fails_when_a_signal_came_is_told() -> None:
    disk, told = Disk(full_at=4), []

    def hear(event: Event) -> None:
        told.append(event)
        if isinstance(event, Stepped) and event.step == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    run = saving_run(disk, hear)
    with pytest.raises(DiskError, match="no room for step 4"), run.signals:
        run.run()
    (ended,) = [event for event in told if isinstance(event, Ended)]
    assert not ended.whole
    assert "no room for step 4" in ended.why


def test_an_error_waits_for_the_checkpoint_that_is_being_written() -> None:
    disk = Disk()

    def hear(event: Event) -> None:
        if isinstance(event, Stepped) and event.step == 4:
            raise KeyError("a subscriber of one's own")

    with pytest.raises(KeyError):
        saving_run(disk, hear).run()
    assert disk.saved == [3]
