"""`graft train`: rows and a base to an adapter, in a run's folder."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from graft.adapters import Adapter, Bank, create_adapter
from graft.commands.assembly import open_base, open_tokenizer, provenance_of
from graft.commands.outcome import Outcome, result_in
from graft.commands.resume import (
    ADAPTER_FOLDER,
    ENVIRONMENT_FILE,
    check_data,
    data_as_given,
    left_in,
    run_data,
    standing_of,
)
from graft.commands.run import Run, Say
from graft.commands.samples import Samples, data_record, read_samples
from graft.commands.steering import Figures, check_steering, figures_of, selection_of
from graft.config import Config, flatten_settings
from graft.data import Template, load_template
from graft.errors import ConfigError
from graft.evaluation import held_out_loss
from graft.forest import plant_batch
from graft.model import Base
from graft.records import TokenSequence
from graft.runtime import pick_device, say_on_stderr, seed_everything
from graft.signals import StopSignals
from graft.training import (
    TRACKERS,
    BadNumbers,
    Batches,
    Bystander,
    Saves,
    Subscriber,
    TrackedRun,
    Training,
    build_optimizer,
    check_optimizer,
    check_trackers,
    compile_norms,
    learning_rate,
)


@dataclass(frozen=True)
class TrainResult:
    """What a run gave. Losses are held-out ones in nats, None where nothing is held out.

    Args:
        steps: that were done.
        best_step: the one whose adapter is handed over.
        best_eval_loss: after it.
        stopped: why before the last step; "" where that was done.
    """

    adapter: str
    steps: int
    first_eval_loss: float | None
    last_eval_loss: float | None
    best_step: int
    best_eval_loss: float | None
    stopped: str
    seconds: float

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Outlook:
    """What a run would do (`--dry-run`)."""

    rows: int
    held_out: int
    steps: int
    tokens_logical: int
    tokens_executed: int
    tokens_trained: int
    trained_parameters: int
    notes: list[str]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def train(
    config: Config,
    out: Path,
    *,
    resume: bool = False,
    allow: Sequence[str] = (),
    subscribers: Sequence[Subscriber] = (),
    say: Say = say_on_stderr,
) -> TrainResult:
    """Train an adapter and leave it in `out/adapter`, with all that the run was made of.

    Where `out` holds this run, broken off, it goes on from the newest whole checkpoint to the same bits; where it is
    finished, its result is given.

    Args:
        resume: `out` has to hold a run.
        allow: names of settings in which that may have been another.
        subscribers: are told of every step.
        say: is given what people should know.

    Raises:
        GraftError: settings, data or model do not do; nothing is written then. Or the disk fails: what was whole is.
        Interrupted: SIGINT or SIGTERM came; the step at hand was finished and saved.
    """
    began = time.perf_counter()
    with StopSignals() as signals:
        _check_libraries(config)
        left, standing = left_in(out), standing_of(config, out, resume=resume, allow=allow)
        if standing == "finished":
            check_data(out, data_as_given(config, data_record(config.data)))
            return _result(out, result_in(out, say), began)
        samples, template = _read_samples(config)
        for note in samples.notes:
            say(note)
        record = data_record(config.data)
        data = run_data(config, record, samples)
        if standing == "unfinished":
            check_data(out, data)
        base, bank, slot, batches = _prepare(config, samples)
        for note in _missing_biases(config, adapter := bank.adapters[slot]):
            say(note)
        provenance = provenance_of(config.model, base, template, record)
        run = Run(config, out, base, adapter, provenance, samples, data, say)
        figures = figures_of(config, base, bank, slot, template)
        training = assemble(config, bank, slot, batches, held_out=samples.held_out, figures=figures)
        training.saves, training.save_every = Saves(partial(run.snapshot, training)), config.checkpoint.every
        training.restore = partial(run.roll_back, training)
        training.signals = signals
        run.checkpoints.check_room(adapter)
        with signals.deferred(), run:
            done, owed = run.begin(standing, training, left)
            training.subscribers = [run.metrics, run, *_bystanders(config, out, subscribers, say)]
            training.run(done=done, owed=owed)
            outcome = run.finish(training)
    return _result(out, outcome, began)


def _result(out: Path, outcome: Outcome, began: float) -> TrainResult:
    return TrainResult(
        adapter=str(out / ADAPTER_FOLDER),
        steps=outcome.steps,
        first_eval_loss=outcome.first_loss,
        last_eval_loss=outcome.last_loss,
        best_step=outcome.best_step,
        best_eval_loss=outcome.best_loss,
        stopped=outcome.stopped,
        seconds=time.perf_counter() - began,
    )


def _bystanders(config: Config, out: Path, subscribers: Sequence[Subscriber], say: Say) -> list[Subscriber]:
    """Those who are told of the run and cannot hurt it: `subscribers`, and the trackers of `report.to`."""
    others: list[Subscriber] = [
        Bystander(getattr(subscriber, "__name__", type(subscriber).__name__), subscriber, say)
        for subscriber in subscribers
    ]
    began = json.loads((out / ENVIRONMENT_FILE).read_bytes()).get("began")  # another run in its place is another
    identity = hashlib.sha256(f"{out.resolve()} {began}".encode()).hexdigest()[:16]
    run = TrackedRun(out.resolve().name, identity, out, flatten_settings(config.model_dump()))
    return others + [Bystander(name, TRACKERS[name](run), say) for name in config.report.to]


def _check_libraries(config: Config) -> None:
    """Raise a ConfigError if one that the settings ask for is not installed."""
    check_optimizer(config.train.optimizer, pick_device())
    check_trackers(config.report.to)


def outlook(config: Config, out: Path | None = None, *, resume: bool = False, allow: Sequence[str] = ()) -> Outlook:
    """What `train` would do with `config`, without doing it: the data are read and laid out, the model is loaded.

    Args:
        out: the run's folder, where it is known; refused as `train` would, by `resume` and `allow`.
    """
    _check_libraries(config)
    if out is not None:
        standing_of(config, out, resume=resume, allow=allow)
    samples, _ = _read_samples(config)
    _, bank, slot, batches = _prepare(config, samples)
    adapter = bank.adapters[slot]
    batches.check_fit(config.train.max_tokens, virtual_tokens=adapter.virtual_tokens)
    forests = [
        forest
        for step in range(1, min(batches.total_steps, batches.steps_per_epoch) + 1)
        for forest in plant_batch(
            [bank.prompted(replace(sample, adapter_slot=slot)) for sample in batches.of_step(step)],
            max_tokens=config.train.max_tokens,
            share=adapter.deterministic,
        )
    ]
    return Outlook(
        rows=len(samples.train),
        held_out=len(samples.held_out),
        steps=batches.total_steps,
        tokens_logical=sum(forest.logical_tokens for forest in forests),
        tokens_executed=sum(len(forest) for forest in forests),
        tokens_trained=sum(forest.trained_tokens for forest in forests),
        trained_parameters=adapter.trained_parameters,
        notes=[*samples.notes, *_missing_biases(config, adapter)],
    )


def _prepare(config: Config, samples: Samples) -> tuple[Base, Bank, int, Batches]:
    """The base in a bank, the slot of a new adapter there, and the batches of each step.

    Raises:
        GraftError: settings, data and model do not fit each other.
    """
    check_steering(config, len(samples.held_out))
    seed_everything(config.train.seed)
    base = open_base(config.model)
    _check_offload(config, base)
    bank = Bank(base.model)
    slot = bank.add(create_adapter(base.model, config, encode=lambda text: base.tokenizer.encode(text, first=False)))
    samples.check_positions(base, virtual_tokens=bank.adapters[slot].virtual_tokens)
    batches = Batches(
        samples.train,
        global_batch=config.train.global_batch,
        epochs=config.train.epochs,
        max_steps=config.train.max_steps,
        seed=config.train.seed,
    )
    return base, bank, slot, batches


def _missing_biases(config: Config, adapter: Adapter) -> list[str]:
    """What is to be said where biases are asked for and the base has none, as Llama's has."""
    asked = config.lora.bias if "lora" in config.method.split("+") else "none"
    if asked == "none" or any(name.endswith("bias") for name, _ in adapter.named_parameters()):
        return []
    return [f"lora.bias={asked} trains none: no layer that it means has a bias"]


def _check_offload(config: Config, base: Base) -> None:
    if config.train.offload and base.model.device.type == "cpu":
        raise ConfigError(
            "train.offload moves activations off a CUDA device, and the model is on the CPU",
            fix="leave it off; train.recompute=1 takes less memory anywhere",
        )


def _read_samples(config: Config) -> tuple[Samples, Template]:
    tokenizer = open_tokenizer(config.model)
    template = load_template(config.data.template, tokenizer.chat_template)
    return read_samples(config.data, template, tokenizer), template


def assemble(
    config: Config,
    bank: Bank,
    slot: int,
    batches: Batches,
    *,
    held_out: Sequence[TokenSequence] = (),
    figures: Figures | None = None,
) -> Training:
    """The training of the adapter in `slot` by `config`, which saves nothing and hears no signal yet.

    Args:
        held_out: samples to measure on, where there are any.
        figures: gives more to measure than their loss.
    """
    settings = config.train
    if settings.compile:
        compile_norms(bank.model)

    def evaluate() -> dict[str, float]:
        loss = held_out_loss(bank, slot, held_out, max_tokens=settings.max_tokens)
        return {"loss": loss, **(figures() if figures else {})}

    return Training(
        bank=bank,
        slot=slot,
        batches=batches,
        optimizer=build_optimizer(list(bank.adapters[slot].named_parameters()), settings),
        rate=lambda step: learning_rate(step, batches.total_steps, settings, steps_per_epoch=batches.steps_per_epoch),
        max_tokens=settings.max_tokens,
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        recompute=settings.recompute,
        offload=settings.offload,
        evaluate=evaluate if held_out else None,
        eval_every=settings.eval_every,
        selection=selection_of(config),
        bad_numbers=BadNumbers(config.bad_numbers.action, config.bad_numbers.budget),
    )
