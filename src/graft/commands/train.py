"""`graft train`: rows and a base to an adapter, in a run's folder."""

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graft.commands.outcome import Outcome, result_in
from graft.commands.preparation import look_in, prepare, run_in
from graft.commands.resume import ADAPTER_FOLDER, ENVIRONMENT_FILE
from graft.commands.run import Say
from graft.config import Config, flatten_settings
from graft.runtime import say_on_stderr
from graft.signals import StopSignals
from graft.training import TRACKERS, Bystander, Subscriber, TrackedRun


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
        left, standing = look_in(config, out, resume=resume, allow=allow)
        if standing == "finished":
            return _result(out, result_in(out, say), began)
        prepared = prepare(config, say, continues=out if standing == "unfinished" else None)
        run, training = run_in(out, prepared, say), prepared.training
        training.signals = signals
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
