"""All that a run is made of, in memory: what refuses a run does so here, before anything is written."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from graft.adapters import Adapter, Bank, Provenance, create_adapter
from graft.commands.assembly import open_base, open_tokenizer, provenance_of
from graft.commands.resume import Standing, check_data, data_as_given, left_in, run_data, standing_of
from graft.commands.run import Run, Say
from graft.commands.samples import Samples, data_record, read_samples
from graft.commands.steering import Figures, check_steering, figures_of, selection_of
from graft.config import Config
from graft.data import load_template
from graft.errors import ConfigError, RunError
from graft.evaluation import held_out_loss
from graft.model import Base
from graft.records import TokenSequence
from graft.runtime import pick_device, seed_everything
from graft.training import (
    BadNumbers,
    Batches,
    Saves,
    Training,
    build_optimizer,
    check_optimizer,
    check_trackers,
    compile_norms,
    learning_rate,
)


@dataclass(frozen=True)
class Prepared:
    """A run that could begin.

    Args:
        data: what `data.json` says of it.
        provenance: what its adapter needs to be used as it was trained.
    """

    config: Config
    samples: Samples
    data: dict[str, Any]
    base: Base
    provenance: Provenance
    training: Training

    @property
    def adapter(self) -> Adapter:
        return self.training.bank.adapters[self.training.slot]


def look_in(
    config: Config, out: Path, *, resume: bool = False, allow: Sequence[str] = ()
) -> tuple[list[bytes], Standing]:
    """What lies in the folder `out`, as `left_in` and `standing_of` have it.

    Raises:
        GraftError: it is not the folder of this run, a library is missing, or the run is finished and was of other
            data.
    """
    check_libraries(config)
    above = next(folder for folder in out.absolute().parents if folder.exists())
    if not above.is_dir():
        raise RunError(f"{out} cannot be made: {above} is not a folder", fix="give another --out")
    left, standing = left_in(out), standing_of(config, out, resume=resume, allow=allow)
    if standing == "finished":
        check_data(out, data_as_given(config, data_record(config.data)))
    return left, standing


def check_libraries(config: Config) -> None:
    """Raise a ConfigError if one that the settings ask for is not installed."""
    check_optimizer(config.train.optimizer, pick_device())
    check_trackers(config.report.to)


def prepare(config: Config, say: Say, *, continues: Path | None = None) -> Prepared:
    """Read and encode the data, load the base, and put a new adapter and its training together.

    Args:
        continues: the folder of the run that is gone on with, which has to be one of the same data.

    Raises:
        GraftError: settings, data and model do not fit each other.
    """
    tokenizer = open_tokenizer(config.model)
    template = load_template(config.data.template, tokenizer.chat_template)
    samples = read_samples(config.data, template, tokenizer)
    for note in samples.notes:
        say(note)
    record = data_record(config.data)
    data = run_data(config, record, samples)
    if continues:
        check_data(continues, data)
    check_steering(config, len(samples.held_out))
    seed_everything(config.train.seed)
    base = open_base(config.model)
    _check_offload(config, base)
    bank = Bank(base.model)
    slot = bank.add(create_adapter(base.model, config, encode=lambda text: base.tokenizer.encode(text, first=False)))
    samples.check_positions(base, virtual_tokens=bank.adapters[slot].virtual_tokens)
    for note in _missing_biases(config, bank.adapters[slot]):
        say(note)
    batches = Batches(
        samples.train,
        global_batch=config.train.global_batch,
        epochs=config.train.epochs,
        max_steps=config.train.max_steps,
        seed=config.train.seed,
    )
    figures = figures_of(config, base, bank, slot, template)
    training = assemble(config, bank, slot, batches, held_out=samples.held_out, figures=figures)
    return Prepared(config, samples, data, base, provenance_of(config.model, base, template, record), training)


def run_in(out: Path, prepared: Prepared, say: Say) -> Run:
    """The run in the folder `out`, which its training saves to and is rolled back from.

    Raises:
        DiskError: there is no room for it.
    """
    training, adapter = prepared.training, prepared.adapter
    run = Run(prepared.config, out, prepared.base, adapter, prepared.provenance, prepared.samples, prepared.data, say)
    training.saves, training.save_every = Saves(partial(run.snapshot, training)), prepared.config.checkpoint.every
    training.restore = partial(run.roll_back, training)
    run.checkpoints.check_room(adapter)
    return run


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
