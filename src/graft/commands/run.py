"""A run's folder: opened, gone on with, and finished."""

import json
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from graft.adapters import CARD_FILE, Adapter, Provenance, read_provenance, refill, save_adapter
from graft.commands.outcome import Outcome, write_outcome
from graft.commands.resume import (
    ADAPTER_FOLDER,
    CONFIG_FILE,
    DATA_FILE,
    ENVIRONMENT_FILE,
    REPORT_FILE,
    RESULT_FILE,
    Change,
    Standing,
    environment_changes,
    is_free,
    left_in,
    settings_hash,
)
from graft.commands.samples import Samples, named_data
from graft.commands.steering import why_best
from graft.config import Config, dump_config
from graft.errors import RunError, write_error
from graft.lock import locked
from graft.model import Base
from graft.report import model_card, write_report
from graft.runtime import environment
from graft.staging import make_folder, replace_file, staged, write_file, write_manifest
from graft.training import (
    Checkpoints,
    Event,
    MetricsFile,
    Started,
    State,
    Stepped,
    Training,
    lines_fault,
    read_metrics,
    read_state,
    restore,
)

Say = Callable[[str], None]

_METRICS_FILE = "metrics.jsonl"
_GO_ON = "free some space and give the same command again: it goes on from the newest whole checkpoint"


@dataclass
class Run:
    """What a run is made of, and where it writes. A context: within it, nobody else writes there.

    Args:
        data: what `data.json` says.
        first_held_out_loss: before training, which no line of `metrics.jsonl` has.
    """

    config: Config
    out: Path
    base: Base
    adapter: Adapter
    provenance: Provenance
    samples: Samples
    data: dict[str, Any]
    say: Say
    first_held_out_loss: float | None = None
    checkpoints: Checkpoints = field(init=False)
    metrics: MetricsFile = field(init=False)
    _lock: ExitStack = field(init=False, default_factory=ExitStack)

    def __post_init__(self) -> None:
        checkpoint = self.config.checkpoint
        anchors = checkpoint.every if self.config.bad_numbers.action == "roll_back" else 0
        self.checkpoints = Checkpoints(self.out / "checkpoints", keep=checkpoint.keep, anchors=anchors)

    def __enter__(self) -> "Run":
        try:
            make_folder(self.out)
            self._lock.enter_context(locked(self.out, self.say))
        except OSError as error:
            raise write_error(str(self.out), error, fix="give another --out") from None
        return self

    def __exit__(self, *raised: Any) -> None:
        self._lock.__exit__(*raised)

    def __call__(self, event: Event) -> None:
        """Listen to the training."""
        if isinstance(event, Started) and event.held_out_loss is not None:
            self.first_held_out_loss = event.held_out_loss

    def snapshot(self, training: Training, step: int, owed: Stepped | None) -> Callable[[], Path]:
        """Copy what the checkpoint after `step` holds; returns what writes it, behind the lines of its steps."""
        state = State(step, self.first_held_out_loss, settings_hash(self.config), owed, self.metrics.digest())
        self.checkpoints.best = training.selection.step
        write = self.checkpoints.snapshot(state, self.adapter, training.optimizer, self.base.model, self.provenance)

        def write_behind_metrics() -> Path:
            self.metrics.flush()
            return write()

        return write_behind_metrics

    def begin(self, standing: Standing, training: Training, left: list[bytes]) -> tuple[int, Stepped | None]:
        """Write down settings, machine and data, and put back what the newest whole checkpoint has.

        Args:
            left: as `left_in` the folder when `standing` was found.

        Returns:
            The last step that is done, and its record where it is owed its held-out loss.

        Raises:
            RunError: the run there is not this one, or cannot be gone on with.
        """
        if standing == "new" and not is_free(self.out):
            raise RunError(f"{self.out} is in use: another process was sooner", fix="give another --out")
        if left_in(self.out) != left:
            raise RunError(f"{self.out}: another process went on with it meanwhile", fix="give the same command again")
        folder, state = self.go_back(standing, training)
        self._write_down(anew=not folder)  # first the settings: a folder without them is taken for somebody's own
        self.metrics = MetricsFile(self.out / _METRICS_FILE, step=state.told)
        self.first_held_out_loss = state.first_held_out_loss
        self._recall(training)
        self.checkpoints.forget_after(state.step)
        return state.step, state.owed

    def go_back(self, standing: Standing, training: Training) -> tuple[Path | None, State]:
        """Put adapter and optimizer back as the newest whole checkpoint has them. Nothing is written.

        Returns:
            Its folder, None where there is none, and where the run stands.

        Raises:
            RunError: it is of another run, or cannot be gone on with.
        """
        folder, faults = self.checkpoints.newest(
            lambda state: lines_fault(self.out / _METRICS_FILE, state.told, state.lines)
        )
        if faults and not folder:
            what = f"{self.out} holds this run, and none of its checkpoints is whole: {'; '.join(faults)}"
            raise RunError(what, fix=f"see to the disk; to begin anew, delete {self.out / 'checkpoints'}")
        for fault in faults:
            self.say(f"a broken checkpoint is passed over: {fault}")
        state = State(0, None)
        if folder:
            self._check_origin(folder)
            state = restore(folder, self.adapter, training.optimizer)
            self._check_length(training, state)
            state = self._with_last_owed(state, training.batches.total_steps)
        elif (self.out / RESULT_FILE).exists():
            what = f"{self.out} holds this run, finished, and no checkpoint that it could go on from"
            raise RunError(what, fix="give the settings that it had, for its result, or begin a new run: another --out")
        if standing == "unfinished":
            self._say_where(state)
        return folder, state

    def _with_last_owed(self, state: State, total: int) -> State:
        """The step that was reached is measured where it has become the last, in a run that was made shorter."""
        line = next(iter(read_metrics(self.out / _METRICS_FILE, steps=state.step)[state.step - 1 :]), None)
        if state.step != total or state.owed or line is None or "held_out_loss" in line:
            return state
        return replace(state, owed=Stepped(**line))

    def _recall(self, training: Training) -> None:
        """What the steps that are done mean for those to come; the best of them is to be had, or is no longer."""
        lines = read_metrics(self.out / _METRICS_FILE)
        training.recall(lines)
        training.selection.replay(lines)
        gone: list[int] = []
        while (best := training.selection.step) is not None and (fault := self.checkpoints.fault_of(best)):
            self.say(f"step {best} was the best, and its checkpoint is lost, so that another is chosen: {fault}")
            gone.append(best)
            training.selection.replay(lines, gone=gone)

    def roll_back(self, training: Training, step: int) -> None:
        """Put adapter and optimizer back as they were after `step`."""
        if fault := self.checkpoints.fault_of(step):
            fix = "give --set bad_numbers.action=skip --allow bad_numbers.action"
            raise RunError(f"the run cannot be rolled back to step {step}: {fault}", fix=fix)
        restore(self.checkpoints.folder_of(step), self.adapter, training.optimizer)

    def finish(self, training: Training) -> Outcome:
        """Hand over the best adapter, and the report.

        Raises:
            RunError: its checkpoint is broken, or the result cannot be written.
        """
        lines = read_metrics(self.out / _METRICS_FILE)
        outcome = self._outcome(lines, training)
        if outcome.best_step != outcome.steps:
            if fault := self.checkpoints.fault_of(outcome.best_step):
                what = f"step {outcome.best_step} was the best, and its adapter is lost: {fault}"
                raise RunError(what, fix="give the same command again: another step is chosen")
            refill(self.adapter, self.checkpoints.folder_of(outcome.best_step))
        if outcome.stopped:
            self.say(f"stopped early, after step {outcome.steps}: {outcome.stopped}")
        if outcome.best_step != outcome.steps:
            self.say(f"the adapter of step {outcome.best_step} is handed over: {why_best(self.config)}")
        try:
            self._hand_over(lines, outcome)
        except OSError as error:
            raise write_error(f"the result in {self.out}", error, fix=_GO_ON) from None
        return outcome

    def _outcome(self, lines: list[dict[str, Any]], training: Training) -> Outcome:
        steps, selection = len(lines), training.selection
        last = next((line["held_out_loss"] for line in reversed(lines) if "held_out_loss" in line), None)
        return Outcome(
            steps=steps,
            first_loss=self.first_held_out_loss,
            last_loss=last,
            best_step=selection.step or steps,
            best_loss=selection.metrics["loss"] if selection.step else last,
            stopped=training.ended if steps < training.batches.total_steps else "",
        )

    def _hand_over(self, steps: list[dict[str, Any]], outcome: Outcome) -> None:
        parameters = self.adapter.trained_parameters
        chosen = f"{outcome.best_step} of {outcome.steps}"
        if outcome.best_step != outcome.steps:
            chosen += f": {why_best(self.config)}"
        with staged(self.out / ADAPTER_FOLDER, replace=True) as folder:
            save_adapter(folder, self.adapter, self.base.model, self.provenance)
            card = model_card(self.config, parameters, self.first_held_out_loss, outcome.best_loss, step=chosen)
            write_file(folder / CARD_FILE, card.encode())
            write_manifest(folder)
        write_outcome(self.out, outcome)
        write_report(
            self.out / REPORT_FILE,
            title=f"Run {self.out.name}",
            steps=steps,
            first_loss=self.first_held_out_loss,
            settings=dump_config(self.config),
            facts={
                "adapter": str(self.out / ADAPTER_FOLDER),
                "step": f"{chosen}{'; stopped early: ' if outcome.stopped else ''}{outcome.stopped}",
                "trained parameters": f"{parameters:,}",
                "data": "; ".join([named_data(self.config.data), *self.samples.notes]),
            },
        )

    def _write_down(self, *, anew: bool) -> None:
        """Settings, which may have changed; machine and data where the run begins. What a finished run has goes."""
        facts = {ENVIRONMENT_FILE: environment() | {"began": time.time()}, DATA_FILE: self.data}
        try:
            for name in (REPORT_FILE, RESULT_FILE):
                (self.out / name).unlink(missing_ok=True)
            replace_file(self.out / CONFIG_FILE, dump_config(self.config).encode())
            for name, content in facts.items():
                if anew or not (self.out / name).exists():
                    replace_file(self.out / name, f"{json.dumps(content, indent=1, ensure_ascii=False)}\n".encode())
        except OSError as error:
            raise write_error(str(self.out), error, fix="free some space, or give another --out") from None

    def _say_where(self, state: State) -> None:
        for change in environment_changes(self.out):
            self.say(f"since the run began: {change}; its bits may be other than without the break")
        if state.step:
            self.say(f"{self.out} holds this run, unfinished: going on after step {state.step}")
        else:
            self.say(f"{self.out} holds this run, and there is no whole checkpoint: the run begins anew")

    def _check_origin(self, checkpoint: Path) -> None:
        """Base, template and settings must be those that the checkpoint was trained with."""
        before, now = read_provenance(checkpoint), self.provenance
        changes = [
            Change(name.replace("_", " "), getattr(before, name, None), getattr(now, name))
            for name in ("base_fingerprint", "template")
            if getattr(before, name, None) != getattr(now, name)
        ]
        hashes = read_state(checkpoint).settings, settings_hash(self.config)
        if hashes[0] not in ("", hashes[1]):
            changes.append(Change(f"settings ({CONFIG_FILE} was changed)", *hashes))
        if changes:
            what = f"{checkpoint} was trained with another {'; '.join(map(str, changes))}"
            raise RunError(what, fix="restore it, or begin a new run with another --out")

    def _check_length(self, training: Training, state: State) -> None:
        """A run of another length must have had the same rates as far as it got."""
        total = training.batches.total_steps
        if state.step > total:
            what = f"step {state.step} is done, and the run is to have {total}"
            raise RunError(what, fix="raise train.max_steps or train.epochs")
        for line in read_metrics(self.out / _METRICS_FILE, steps=state.step):
            rate = training.rate(line["step"])
            if rate != line["lr"]:
                what = f"step {line['step']} had the rate {line['lr']:g}, and in a run of {total} steps it has {rate:g}"
                schedule = self.config.train.schedule
                fix = f"begin a new run: under the schedule {schedule} rates depend on the length, as in a warm-up"
                raise RunError(what, fix=fix)
