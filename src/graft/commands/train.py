"""`graft train`: rows and a base to an adapter, in a run's folder."""

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from graft.adapters import METHODS, Adapter, Bank, Provenance, read_provenance, save_adapter
from graft.commands.assembly import (
    Samples,
    check_positions,
    data_record,
    encode_samples,
    open_base,
    open_tokenizer,
    split_conversations,
)
from graft.config import Config, build_config, dump_config, read_config
from graft.data import Template, load_template
from graft.errors import RunError
from graft.evaluation import held_out_loss
from graft.forest import plant_batch
from graft.model import Base
from graft.report import model_card, write_report
from graft.runtime import environment, say_on_stderr, seed_everything
from graft.staging import staged
from graft.training import (
    Batches,
    Checkpoints,
    Event,
    MetricsFile,
    Started,
    State,
    Subscriber,
    Training,
    build_optimizer,
    learning_rate,
    read_metrics,
    restore,
)

Say = Callable[[str], None]


@dataclass(frozen=True)
class TrainResult:
    """What a run gave. Losses are held-out ones in nats, None where nothing is held out."""

    adapter: str
    steps: int
    first_eval_loss: float | None
    last_eval_loss: float | None
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
    subscribers: Sequence[Subscriber] = (),
    say: Say = say_on_stderr,
) -> TrainResult:
    """Train an adapter and leave it in `out/adapter`, with all that the run was made of.

    Args:
        resume: go on from the newest whole checkpoint in `out`.
        subscribers: are told of every step.
        say: is given what people should know.

    Raises:
        GraftError: settings, data or model do not do; nothing is written then.
    """
    began = time.perf_counter()
    _check_out(config, out, resume)
    samples, template = _read_samples(config)
    for note in samples.notes:
        say(note)
    seed_everything(config.train.seed)
    base = open_base(config.model)
    bank = Bank(base.model)
    slot = bank.add(METHODS[config.method].create(base.model, config.lora, seed=config.train.seed))
    check_positions(base, samples)
    provenance = Provenance(
        config.model.path, config.model.dtype, base.fingerprint, template.content(), data_record(config.data)
    )
    first_loss = _FirstLoss()
    checkpoints = Checkpoints(out / "checkpoints", keep=config.checkpoint.keep)

    def save(step: int) -> Path:
        state = State(step, first_loss.value)
        return checkpoints.save(state, bank.adapters[slot], training.optimizer, base.model, provenance)

    training = _assemble(config, bank, slot, samples, save)
    done = 0
    if resume:
        done = _resume(checkpoints, bank.adapters[slot], training, provenance, first_loss, say)
    else:
        _open_run(config, out, samples.notes)
    training.subscribers = [MetricsFile(out / "metrics.jsonl", step=done), first_loss, *subscribers]
    training.run(done=done)
    return _finish(config, out, base, bank.adapters[slot], provenance, first_loss.value, samples.notes, began)


def outlook(config: Config, out: Path | None = None) -> Outlook:
    """What `train` would do with `config`, without doing it: the data are read and laid out, the model is loaded.

    Args:
        out: the run's folder, where it is known; refused as `train` would.
    """
    if out is not None:
        _check_out(config, out, resume=False)
    samples, _ = _read_samples(config)
    base = open_base(config.model)
    check_positions(base, samples)
    adapter = METHODS[config.method].create(base.model, config.lora, seed=config.train.seed)
    batches = _batches(config, samples)
    batches.check_fit(config.train.max_tokens)
    forests = [
        forest
        for step in range(1, min(batches.total_steps, batches.steps_per_epoch) + 1)
        for forest in plant_batch(
            batches.of_step(step), max_tokens=config.train.max_tokens, share=adapter.deterministic
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
        notes=samples.notes,
    )


class _FirstLoss:
    """The held-out loss before training, which no line of `metrics.jsonl` has."""

    def __init__(self) -> None:
        self.value: float | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started) and event.held_out_loss is not None:
            self.value = event.held_out_loss


def _read_samples(config: Config) -> tuple[Samples, Template]:
    template = load_template(config.data.template)
    parts = split_conversations(config.data)
    tokenizer = open_tokenizer(config.model)
    return encode_samples(parts, config.data, template, tokenizer), template


def _batches(config: Config, samples: Samples) -> Batches:
    return Batches(
        samples.train,
        global_batch=config.train.global_batch,
        epochs=config.train.epochs,
        max_steps=config.train.max_steps,
        seed=config.train.seed,
    )


def _assemble(config: Config, bank: Bank, slot: int, samples: Samples, save: Callable[[int], Path]) -> Training:
    settings = config.train
    batches = _batches(config, samples)

    def evaluate() -> float:
        return held_out_loss(bank, slot, samples.held_out, max_tokens=settings.max_tokens)

    return Training(
        bank=bank,
        slot=slot,
        batches=batches,
        optimizer=build_optimizer(list(bank.adapters[slot].named_parameters()), settings),
        rate=lambda step: learning_rate(step, batches.total_steps, settings),
        max_tokens=settings.max_tokens,
        max_grad_norm=settings.max_grad_norm,
        seed=settings.seed,
        evaluate=evaluate if samples.held_out else None,
        eval_every=settings.eval_every,
        save=save,
        save_every=config.checkpoint.every,
    )


def _check_out(config: Config, out: Path, resume: bool) -> None:
    if not resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RunError(f"{out} is in use", fix="give another --out, or go on with that run with --resume")
        return
    if not (out / "config.yaml").exists():
        raise RunError(f"{out} holds no run to go on with", fix="leave --resume out to begin one")
    if build_config(read_config(out / "config.yaml")) != config:
        raise RunError(f"the settings are not those of the run in {out}", fix=f"compare with {out / 'config.yaml'}")


def _open_run(config: Config, out: Path, notes: list[str]) -> None:
    out.mkdir(parents=True, exist_ok=True)
    (out / "config.yaml").write_text(dump_config(config), encoding="utf-8")
    (out / "environment.json").write_text(json.dumps(environment(), indent=1) + "\n")
    data = {**data_record(config.data), "notes": notes}
    (out / "data.json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _resume(
    checkpoints: Checkpoints,
    adapter: Adapter,
    training: Training,
    provenance: Provenance,
    first_loss: _FirstLoss,
    say: Say,
) -> int:
    folder, faults = checkpoints.newest()
    for fault in faults:
        say(f"a broken checkpoint is passed over: {fault}")
    if folder is None:
        say("there is no whole checkpoint: the run begins anew")
        checkpoints.forget_after(0)
        return 0
    if (before := read_provenance(folder)) != provenance:
        changed = [f.name for f in fields(Provenance) if getattr(before, f.name, None) != getattr(provenance, f.name)]
        what = f"{folder} was trained with another {', '.join(changed).replace('_', ' ')}"
        raise RunError(what, fix="restore it, or begin a new run")
    state = restore(folder, adapter, training.optimizer)
    first_loss.value = state.first_held_out_loss
    checkpoints.forget_after(state.step)
    say(f"going on after step {state.step}")
    return state.step


def _finish(
    config: Config,
    out: Path,
    base: Base,
    adapter: Adapter,
    provenance: Provenance,
    first: float | None,
    notes: list[str],
    began: float,
) -> TrainResult:
    steps = read_metrics(out / "metrics.jsonl")
    last = next((line["held_out_loss"] for line in reversed(steps) if "held_out_loss" in line), None)
    with staged(out / "adapter", replace=True) as folder:
        save_adapter(folder, adapter, base.model, provenance)
        card = model_card(config, adapter.trained_parameters, first, last)
        (folder / "README.md").write_text(card, encoding="utf-8")
    write_report(
        out / "report.html",
        title=f"Run {out.name}",
        steps=steps,
        first_loss=first,
        settings=dump_config(config),
        facts={
            "adapter": str(out / "adapter"),
            "trained parameters": f"{adapter.trained_parameters:,}",
            "data": "; ".join([config.data.path, *notes]),
        },
    )
    return TrainResult(
        adapter=str(out / "adapter"),
        steps=steps[-1]["step"],
        first_eval_loss=first,
        last_eval_loss=last,
        seconds=time.perf_counter() - began,
    )
