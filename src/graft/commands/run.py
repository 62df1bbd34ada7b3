"""A run's folder: opened, gone on with, and finished."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path

from graft.adapters import Adapter, Provenance, read_provenance, save_adapter
from graft.commands.samples import Samples, data_record, named_data
from graft.config import Config, build_config, dump_config, read_config
from graft.errors import RunError
from graft.model import Base
from graft.report import model_card, write_report
from graft.runtime import environment
from graft.staging import staged
from graft.training import Checkpoints, Event, MetricsFile, Started, State, Training, read_metrics, restore

Say = Callable[[str], None]


def check_out(config: Config, out: Path, *, resume: bool) -> None:
    """Raise a RunError if a run cannot be begun in `out`, or the one in it is not the one to go on with."""
    if not resume:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise RunError(f"{out} is in use", fix="give another --out, or go on with that run with --resume")
        return
    if not (out / "config.yaml").exists():
        raise RunError(f"{out} holds no run to go on with", fix="leave --resume out to begin one")
    if build_config(read_config(out / "config.yaml")) != config:
        raise RunError(f"the settings are not those of the run in {out}", fix=f"compare with {out / 'config.yaml'}")


@dataclass
class Run:
    """What a run is made of, and where it writes.

    Args:
        first_held_out_loss: before training, which no line of `metrics.jsonl` has.
    """

    config: Config
    out: Path
    base: Base
    adapter: Adapter
    provenance: Provenance
    samples: Samples
    first_held_out_loss: float | None = None
    checkpoints: Checkpoints = field(init=False)

    def __post_init__(self) -> None:
        self.checkpoints = Checkpoints(self.out / "checkpoints", keep=self.config.checkpoint.keep)

    def __call__(self, event: Event) -> None:
        """Listen to the training."""
        if isinstance(event, Started) and event.held_out_loss is not None:
            self.first_held_out_loss = event.held_out_loss

    def open(self) -> MetricsFile:
        """Begin: write down settings, machine and data."""
        self.out.mkdir(parents=True, exist_ok=True)
        (self.out / "config.yaml").write_text(dump_config(self.config), encoding="utf-8")
        (self.out / "environment.json").write_text(json.dumps(environment(), indent=1) + "\n")
        data = {**data_record(self.config.data), "too_long": self.samples.too_long, "notes": self.samples.notes}
        (self.out / "data.json").write_text(json.dumps(data, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
        return MetricsFile(self.out / "metrics.jsonl")

    def save(self, step: int, training: Training) -> Path:
        """Write the checkpoint after `step`."""
        state = State(step, self.first_held_out_loss)
        return self.checkpoints.save(state, self.adapter, training.optimizer, self.base.model, self.provenance)

    def go_on(self, training: Training, say: Say) -> tuple[int, MetricsFile]:
        """Put adapter and optimizer back as in the newest whole checkpoint; returns the last step that is done."""
        folder, faults = self.checkpoints.newest()
        for fault in faults:
            say(f"a broken checkpoint is passed over: {fault}")
        if folder is None:
            say("there is no whole checkpoint: the run begins anew")
            self.checkpoints.forget_after(0)
            return 0, MetricsFile(self.out / "metrics.jsonl")
        self._check_provenance(folder)
        state = restore(folder, self.adapter, training.optimizer)
        metrics = MetricsFile(self.out / "metrics.jsonl", step=state.step)
        self.first_held_out_loss = state.first_held_out_loss
        self.checkpoints.forget_after(state.step)
        say(f"going on after step {state.step}")
        return state.step, metrics

    def finish(self) -> tuple[int, float | None]:
        """Hand over the adapter and the report; returns the number of steps and the last held-out loss."""
        steps = read_metrics(self.out / "metrics.jsonl")
        last = next((line["held_out_loss"] for line in reversed(steps) if "held_out_loss" in line), None)
        parameters = self.adapter.trained_parameters
        with staged(self.out / "adapter", replace=True) as folder:
            save_adapter(folder, self.adapter, self.base.model, self.provenance)
            card = model_card(self.config, parameters, self.first_held_out_loss, last)
            (folder / "README.md").write_text(card, encoding="utf-8")
        write_report(
            self.out / "report.html",
            title=f"Run {self.out.name}",
            steps=steps,
            first_loss=self.first_held_out_loss,
            settings=dump_config(self.config),
            facts={
                "adapter": str(self.out / "adapter"),
                "trained parameters": f"{parameters:,}",
                "data": "; ".join([named_data(self.config.data), *self.samples.notes]),
            },
        )
        return steps[-1]["step"], last

    def _check_provenance(self, checkpoint: Path) -> None:
        """The base, the template and the data must be those that the checkpoint was trained with."""
        before = read_provenance(checkpoint)
        names = [f.name for f in fields(Provenance) if f.name != "methods"]  # the settings, which are equal, say them
        changed = [name for name in names if getattr(before, name, None) != getattr(self.provenance, name)]
        if changed:
            what = f"{checkpoint} was trained with another {', '.join(changed).replace('_', ' ')}"
            raise RunError(what, fix="restore it, or begin a new run")
