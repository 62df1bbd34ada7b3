"""Numbers gone wrong: nothing of them reaches the weights, and the rows that they come of are named."""

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from graft.adapters import Provenance
from graft.errors import RunError
from graft.records import Source, TokenSequence
from graft.training import (
    BadNumbers,
    Checkpoints,
    Event,
    MetricsFile,
    Saves,
    State,
    Stepped,
    Training,
    Warned,
    read_metrics,
    restore,
)
from graft.training.numbers import FEWEST, LossWatch
from tests.families import samples
from tests.training.test_loop import training, weights

POISON = 7
"""A token that one row alone has."""

ORIGIN = Provenance("base", "auto", "print", {}, {})


def rows(poisoned: int = 1) -> list[TokenSequence]:
    clean = [
        replace(
            sample, ids=tuple(8 if token == POISON else token for token in sample.ids), source=Source("rows.json", n)
        )
        for n, sample in enumerate((s for s in samples(40, seed=1) if s.trained_tokens), start=1)
    ]
    bad = [
        TokenSequence((1, 2, POISON, 3), (False, True, True, True), Source("bad.json", n), weight=0.5)
        for n in range(1, poisoned + 1)
    ]
    return [*clean, *bad]


def poisoned_run(*, poisoned: int = 1, **settings: Any) -> Training:
    run = training(sequences=rows(poisoned), global_batch=4, dtype=torch.float32, **settings)
    run.bank.model.get_input_embeddings().weight[POISON] = math.nan
    return run


def heard(run: Training, **resumed: Any) -> list[Event]:
    events: list[Event] = []
    run.subscribers = [*run.subscribers, events.append]
    run.run(**resumed)
    return events


def bad_step(run: Training) -> int:
    """The first step that has the row."""
    steps = range(1, run.batches.total_steps + 1)
    return next(step for step in steps if any(POISON in sample.ids for sample in run.batches.of_step(step)))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_row_that_gives_no_number_is_named_and_the_weights_are_those_of_the_step_before(dropout: float) -> None:
    run = poisoned_run(dropout=dropout)
    step = bad_step(run)
    assert step > 2
    with pytest.raises(RunError) as caught:
        run.run()
    assert f"step {step}: loss nan and gradient norm nan are not both finite. At fault: bad.json:1;" in str(
        caught.value
    )
    assert f"the weights are those of step {step - 1}" in str(caught.value)
    until = poisoned_run(dropout=dropout)
    until.batches.total_steps = step - 1
    until.run()
    assert all(torch.equal(weights(run)[name], tensor) for name, tensor in weights(until).items())


def test_a_row_whose_gradient_alone_is_no_number_is_found() -> None:
    run = training(sequences=rows(), global_batch=4)
    run.bank.model.get_input_embeddings().register_forward_hook(
        lambda module, given, found: here.update(poison=bool((given[0] == POISON).any()))
    )
    here: dict[str, bool] = {}

    def overflow(module: Any, given: Any, found: torch.Tensor) -> None:
        if here["poison"] and found.requires_grad:
            found.register_hook(lambda slope: slope * math.inf)

    run.bank.model.base_model.norm.register_forward_hook(overflow)
    with pytest.raises(
        RunError, match=r"loss \d\.\d+ and gradient norm nan are not both finite. At fault: bad.json:1;"
    ):
        run.run()


def test_weights_gone_wrong_are_said_to_be() -> None:
    run = poisoned_run()
    for name, parameter in run.bank.adapters[run.slot].named_parameters():
        if "lora_B" in name:
            parameter.data.fill_(math.inf)
    with pytest.raises(RunError, match=r"step 1: .* Each of its rows gives .* by itself, as weights gone wrong"):
        run.run()


def test_a_step_can_be_skipped() -> None:
    run = poisoned_run()
    run.bad_numbers = BadNumbers("skip", 2)
    step = bad_step(run)
    before: dict[int, dict[str, torch.Tensor]] = {}
    run.subscribers = [lambda event: before.update({event.step: weights(run)}) if isinstance(event, Stepped) else None]
    events = heard(run)
    records = {event.step: event for event in events if isinstance(event, Stepped)}
    assert len(records) == run.batches.total_steps
    left_out = [step for step, record in records.items() if record.left_out]
    assert left_out[0] == step
    assert len(left_out) == 2, "one in each epoch"
    assert records[step].loss is None
    assert records[step].left_out == "its update is not made"
    assert all(torch.equal(before[step][name], tensor) for name, tensor in before[step - 1].items())
    warned = next(event for event in events if isinstance(event, Warned))
    assert "At fault: bad.json:1; its update is not made" in str(warned)
    assert records[step].warnings == [str(warned)]
    assert all(math.isfinite(record.loss) for record in records.values() if record.loss is not None)


def test_the_budget_ends_it() -> None:
    run = poisoned_run(poisoned=3)
    run.bad_numbers = BadNumbers("skip", 2)
    with pytest.raises(RunError, match=r"bad_numbers.budget 2 is spent; the weights are those of the step before"):
        run.run()
    assert run.bad_numbers.left_out == 2


def saved_run(folder: Path, *, every: int = 2, keep: int = 1, **settings: Any) -> tuple[Training, Checkpoints]:
    """A run that rolls back, and writes checkpoints and metrics."""
    run = poisoned_run(**settings)
    adapter = run.bank.adapters[run.slot]
    checkpoints = Checkpoints(folder, keep=keep, anchors=every)
    run.bad_numbers = BadNumbers("roll_back", 5)
    run.saves = Saves(
        lambda step, owed: checkpoints.snapshot(State(step, None), adapter, run.optimizer, run.bank.model, ORIGIN)
    )
    run.save_every = every
    run.restore = lambda step: (restore(checkpoints.folder_of(step), adapter, run.optimizer), None)[1]
    return run, checkpoints


def test_a_run_can_be_rolled_back_and_passes_over_the_batches_since(tmp_path: Path) -> None:
    run, _ = saved_run(tmp_path, every=3)
    step = bad_step(run)
    anchor = (step - 1) // 3 * 3
    assert 0 < anchor < step - 1, "there is something to roll back"
    at: dict[int, dict[str, torch.Tensor]] = {}
    run.subscribers = [lambda event: at.update({event.step: weights(run)}) if isinstance(event, Stepped) else None]
    records = {event.step: event for event in heard(run) if isinstance(event, Stepped)}
    assert records[step].left_out == f"rolled back to step {anchor}; the batches since are passed over"
    assert all(torch.equal(at[step][name], tensor) for name, tensor in at[anchor].items())
    assert not all(torch.equal(at[step - 1][name], tensor) for name, tensor in at[anchor].items())
    assert records[step + 1].loss is not None


def test_before_the_first_checkpoint_there_is_nothing_to_roll_back_to(tmp_path: Path) -> None:
    run, _ = saved_run(tmp_path, every=1000)
    records = {event.step: event for event in heard(run) if isinstance(event, Stepped)}
    assert "no checkpoint yet to roll back to" in str(records[bad_step(run)].left_out)


@pytest.mark.parametrize("action", ["skip", "roll_back"])
def test_a_resumed_run_leaves_out_the_same_and_comes_to_the_same_bits(action: Any, tmp_path: Path) -> None:
    begin = partial(saved_run, every=3, dropout=0.3)
    whole, _ = begin(tmp_path / "whole")
    step = bad_step(whole)
    for run, folder in ((whole, "whole"), *((None, f"cut {n}") for n in (step - 1, step, step + 1))):
        lines = tmp_path / f"{folder}.jsonl"
        if run:
            run.bad_numbers.action = action
            run.subscribers = [MetricsFile(lines)]
            run.run()
            continue
        cut, checkpoints = begin(tmp_path / folder)
        cut.bad_numbers.action = action
        last = int(folder.split()[1])

        def stop(event: Event, last: int = last, cut: Training = cut) -> None:
            """As a signal would: after `last`, with a checkpoint that is not due."""
            if isinstance(event, Stepped) and event.step == last:
                assert cut.saves
                cut.saves.begin(last)
                cut.saves.settle()
                raise KeyboardInterrupt

        cut.subscribers = [MetricsFile(lines), stop]
        with pytest.raises(KeyboardInterrupt):
            cut.run()
        resumed, checkpoints = begin(tmp_path / folder)
        resumed.bad_numbers.action = action
        newest, faults = checkpoints.newest()
        assert newest
        assert not faults
        state = restore(newest, resumed.bank.adapters[resumed.slot], resumed.optimizer)
        assert state.step == last
        resumed.subscribers = [MetricsFile(lines, step=last)]
        resumed.recall(read_metrics(lines))
        resumed.run(done=last)
        assert [line.get("loss") for line in read_metrics(lines)] == [
            line.get("loss") for line in read_metrics(tmp_path / "whole.jsonl")
        ]
        assert resumed.bad_numbers.left_out == whole.bad_numbers.left_out == 2
        assert all(torch.equal(weights(resumed)[name], tensor) for name, tensor in weights(whole).items())


def test_a_spike_is_told_with_the_rows_of_the_highest_loss() -> None:
    run = training(sequences=rows(0), global_batch=4, learning_rate=1e-6, dtype=torch.float32)
    run.batches.total_steps = 40
    run.batches.steps_per_epoch = 10**6
    worst = TokenSequence((1, 9, 9, 3), (False, True, True, True), Source("odd.json", 3), weight=50.0)
    usual = [replace(sample, weight=1.0) for sample in run.batches.of_step(1)]
    run.batches.of_step = lambda step: [*usual, worst] if step == 30 else usual  # type: ignore[method-assign]
    run.bank.model.lm_head.weight[9] *= -300
    events = heard(run)
    warned = [event for event in events if isinstance(event, Warned)]
    assert [event.step for event in warned] == [30]
    assert "is out of line, above" in warned[0].what
    assert warned[0].rows[0].startswith("odd.json:3 (loss ")
    assert [event.step for event in events if isinstance(event, Stepped) and event.warnings] == [30]


def test_what_counts_as_a_spike() -> None:
    watch = LossWatch()
    for number in range(FEWEST - 1):
        watch.note(2.0 + 0.1 * (number % 3))
    assert watch.limit() is None, "too few to tell"
    watch.note(2.1)
    limit = watch.limit()
    assert limit is not None
    assert limit == pytest.approx(2.1 + 10 * 0.1)
    flat = LossWatch()
    for _ in range(FEWEST):
        flat.note(1.0)
    assert flat.limit() == pytest.approx(1.1), "ripples of a flat loss are none"
