"""Subscribers that keep figures elsewhere: TensorBoard, and as extras Weights & Biases, MLflow and trackio.

Each is made when the run starts, and is one of the `Bystander`s: what fails in it does not hurt the run. A resumed run
goes on in the same record where the tracker can.
"""

import os
import sys
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from graft.errors import ConfigError
from graft.training.events import Ended, Evaluated, Event, Started, Stepped, Warned

PROJECT = "graft"
"""Under which the runs of one user stand in a tracker that knows several."""

_OF_A_STEP = ("loss", "lr", "grad_norm", "samples", "tokens_executed", "tokens_trained", "peak_memory_bytes")


@dataclass(frozen=True)
class TrackedRun:
    """What a tracker is told of a run.

    Args:
        identity: the same for a run that is resumed, and for no other.
        folder: of the run.
        settings: resolved, by dotted name.
    """

    name: str
    identity: str
    folder: Path
    settings: Mapping[str, Any]

    @property
    def plain_settings(self) -> dict[str, str | int | float | bool]:
        return {k: v if isinstance(v, str | int | float | bool) else str(v) for k, v in self.settings.items()}


class Tracker(ABC):
    """Turns events into figures by name: `train/loss`, `held_out/loss`, and at the end `final/loss`."""

    def __init__(self, run: TrackedRun) -> None:
        self.run = run
        self._begun = False
        self._warned: Counter[int] = Counter()  # how often in each step; a step that is done again counts anew

    def __call__(self, event: Event) -> None:
        with redirect_stdout(sys.stderr):  # where results alone go; libraries greet people there
            self._take(event)

    def _take(self, event: Event) -> None:
        if isinstance(event, Started):
            self.begin(event.step)
            self._begun = True
        elif not self._begun:
            return  # broken off in the first measurement: there is no record to close
        elif isinstance(event, Stepped):
            figures = {name: getattr(event, name) for name in _OF_A_STEP}
            self.log(event.step, {f"train/{name}": float(f) for name, f in figures.items() if f is not None})
        elif isinstance(event, Evaluated):
            self.log(event.step, {f"held_out/{name}": figure for name, figure in event.metrics.items()})
        elif isinstance(event, Warned):
            self._warned[event.step] += 1
            self.warn(event.step, self._warned[event.step], str(event))
        elif isinstance(event, Ended):
            final = {f"final/{name}": figure for name, figure in event.metrics.items()}
            self.end(event.step, final, event.why, whole=event.whole)

    @abstractmethod
    def begin(self, done: int) -> None:
        """Open the record, or go on with it after the step `done`."""

    @abstractmethod
    def log(self, step: int, figures: Mapping[str, float]) -> None: ...

    @abstractmethod
    def warn(self, step: int, number: int, what: str) -> None:
        """Keep the warning `number`, from 1, of those that `step` gave."""

    @abstractmethod
    def end(self, step: int, final: Mapping[str, float], why: str, *, whole: bool) -> None:
        """Keep the figures of the adapter that is handed over, and close the record."""


class TensorBoard(Tracker):
    """Event files in `tensorboard/` of the run's folder."""

    def begin(self, done: int) -> None:
        write = import_module("torch.utils.tensorboard").SummaryWriter
        self._writer = write(str(self.run.folder / "tensorboard"), purge_step=done + 1 if done else 0)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        for name, figure in figures.items():
            self._writer.add_scalar(name, figure, step)

    def warn(self, step: int, number: int, what: str) -> None:
        self._writer.add_text("warnings", what, step)

    def end(self, step: int, final: Mapping[str, float], why: str, *, whole: bool) -> None:
        self._writer.add_text("end", why, step)
        if whole:
            self._writer.add_hparams(self.run.plain_settings, dict(final), run_name=".", global_step=step)
        self._writer.close()


class WeightsAndBiases(Tracker):
    """Where the user is logged in, or WANDB_MODE=offline."""

    def begin(self, done: int) -> None:
        wandb = import_module("wandb")
        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            name=self.run.name,
            id=self.run.identity,
            resume="allow",
            dir=str(self.run.folder),
            config=dict(self.run.settings),
            settings=wandb.Settings(console="off", silent=True),
        )

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._run.log(dict(figures), step=step)

    def warn(self, step: int, number: int, what: str) -> None:
        self._run.summary[f"warnings/{step}/{number}"] = what

    def end(self, step: int, final: Mapping[str, float], why: str, *, whole: bool) -> None:
        self._run.summary.update({**final, "end": why})
        self._run.finish(exit_code=0 if whole else 1)


class MLflow(Tracker):
    """Where MLFLOW_TRACKING_URI says; else a database in the run's folder."""

    def begin(self, done: int) -> None:
        mlflow = import_module("mlflow")
        self._metric = import_module("mlflow.entities").Metric
        folder = self.run.folder.absolute()
        where = os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{folder / 'mlflow.db'}"
        self._client = mlflow.MlflowClient(tracking_uri=where)
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", PROJECT)
        found = self._client.get_experiment_by_name(name)
        experiment = found.experiment_id if found else self._client.create_experiment(name)
        same = self._client.search_runs([experiment], f"tags.`graft.run` = '{self.run.identity}'", max_results=1)
        self._known: dict[str, int] = {}
        if same:
            self._id = same[0].info.run_id
            for figure in same[0].data.metrics:  # nothing is written twice: MLflow would keep both
                self._known[figure] = max(m.step for m in self._client.get_metric_history(self._id, figure))
            self._client.update_run(self._id, status="RUNNING")
            return
        made = self._client.create_run(experiment, run_name=self.run.name, tags={"graft.run": self.run.identity})
        self._id = made.info.run_id
        for setting, value in self.run.plain_settings.items():
            self._client.log_param(self._id, setting, value)

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._keep(step, {name: figure for name, figure in figures.items() if step > self._known.get(name, -1)})

    def _keep(self, step: int, figures: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        self._client.log_batch(self._id, [self._metric(name, f, now, step) for name, f in figures.items()])

    def warn(self, step: int, number: int, what: str) -> None:
        self._client.set_tag(self._id, f"graft.warning.{step}.{number}", what)

    def end(self, step: int, final: Mapping[str, float], why: str, *, whole: bool) -> None:
        self._keep(step, final)  # of the same step, it may be another adapter's
        self._client.set_tag(self._id, "graft.end", why)
        self._client.set_terminated(self._id, "FINISHED" if whole else "FAILED")


class Trackio(Tracker):
    """Where TRACKIO_DIR says; else in its own folder among the user's caches."""

    def begin(self, done: int) -> None:
        trackio = import_module("trackio")
        self._finish = trackio.finish
        self._run = trackio.init(
            project=os.environ.get("TRACKIO_PROJECT", PROJECT),
            name=f"{self.run.name}-{self.run.identity[:6]}",
            config=self.run.plain_settings,
            resume="allow",
            embed=False,
        )
        self._known = getattr(self._run, "_next_step", 0) - 1  # what is there; it has no public name for it
        self._warnings: list[tuple[int, str]] = []

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self._keep(step, figures)
        self._keep_warnings()

    def _keep(self, step: int, said: Mapping[str, float | str]) -> None:
        if step > self._known:  # nothing is written twice: trackio would keep both
            self._run.log(dict(said), step=step)

    def warn(self, step: int, number: int, what: str) -> None:
        self._warnings.append((step, what))  # behind the figures of its step, which would pass for written

    def _keep_warnings(self) -> None:
        for step, what in self._warnings:
            self._keep(step, {"warning": what})
        self._warnings.clear()

    def end(self, step: int, final: Mapping[str, float], why: str, *, whole: bool) -> None:
        self._keep_warnings()
        if final:
            self._run.log(dict(final), step=step)
        self._finish()  # of the module: it forgets the run, and does not finish it again at exit


TRACKERS: Mapping[str, type[Tracker]] = {
    "tensorboard": TensorBoard,
    "wandb": WeightsAndBiases,
    "mlflow": MLflow,
    "trackio": Trackio,
}
"""By the name of the library and of the extra that has it."""


def check_trackers(names: Sequence[str]) -> None:
    """Raise a ConfigError if the library of one is not installed."""
    missing = [name for name in names if find_spec(name) is None]
    if missing:
        extras = ",".join(missing)
        what = f"report.to names {', '.join(missing)}, which is not installed"
        raise ConfigError(what, fix=f"pip install 'graft-llm[{extras}]', or leave it out")
