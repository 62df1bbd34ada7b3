"""What a run says of itself while it goes on, and `metrics.jsonl`, which keeps it."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from graft.errors import RunError, write_error
from graft.staging import append_line, flush_file, replace_file


@dataclass(frozen=True)
class Started:
    """Before the first step.

    Args:
        step: the last step that is done already; 0 unless the run is resumed.
        held_out_loss: before training; None where nothing is held out, or the run is resumed.
    """

    step: int
    total_steps: int
    held_out_loss: float | None


@dataclass(frozen=True)
class Stepped:
    """After an optimizer step. These fields are a line of `metrics.jsonl`.

    Args:
        time: seconds since 1970.
        loss: mean over the step's trained tokens, in nats; None where the step was left out.
        lr: learning rate of the step.
        grad_norm: L2 norm of the gradient before clipping.
        tokens_logical: tokens of the samples.
        tokens_executed: tokens that the model ran, fewer where samples share a prefix.
        peak_memory_bytes: the most in use since the run began.
        held_out_loss: where it was measured after this step.
        held_out: the other figures of that measurement, where there are any.
        max_tokens: of a forest, where memory had it lowered.
        left_out: why the step's update was not made.
        warnings: what was odd about the step.
    """

    step: int
    time: float
    loss: float | None
    lr: float
    grad_norm: float | None
    samples: int
    tokens_logical: int
    tokens_executed: int
    tokens_trained: int
    peak_memory_bytes: int
    held_out_loss: float | None = None
    held_out: Mapping[str, float] | None = None
    max_tokens: int | None = None
    left_out: str | None = None
    warnings: list[str] | None = None


@dataclass(frozen=True)
class Evaluated:
    """The held-out rows were measured after `step`; 0 is before the first.

    Args:
        metrics: figures by name; `loss` in nats is always there.
    """

    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Saved:
    """A checkpoint stands complete in `folder`."""

    step: int
    folder: Path


@dataclass(frozen=True)
class Warned:
    """Something is odd in `step`, and the run goes on.

    Args:
        rows: where the rows that it comes of stand in the data; empty where it comes of none.
    """

    step: int
    what: str
    rows: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        return f"step {self.step}: {self.what}{': ' if self.rows else ''}{', '.join(self.rows)}"


@dataclass(frozen=True)
class Ended:
    """Nothing comes after it.

    Args:
        step: the last one done.
        why: "all steps are done", why it stopped early, or what broke it off.
        whole: the run is finished.
        metrics: what the held-out rows gave after the step whose adapter is handed over.
    """

    step: int
    why: str
    whole: bool
    metrics: Mapping[str, float] = field(default_factory=dict)


Event = Started | Stepped | Evaluated | Saved | Warned | Ended
Subscriber = Callable[[Event], None]


class Bystander:
    """A subscriber that cannot hurt the run: what goes wrong in it is said once, and it is told no more.

    Args:
        say: is given what people should know.
    """

    def __init__(self, name: str, subscriber: Subscriber, say: Callable[[str], None]) -> None:
        self._name = name
        self._subscriber: Subscriber | None = subscriber
        self._say = say

    def __call__(self, event: Event) -> None:
        if self._subscriber is None:
            return
        try:
            self._subscriber(event)
        except (Exception, SystemExit) as error:  # a library that wants to leave is not the run
            self._subscriber = None
            what = f"{type(error).__name__}: {error}"
            self._say(f"{self._name} fails and is told no more of the run, which goes on: {what}")


class MetricsFile:
    """Writes `metrics.jsonl`: one line a step.

    Args:
        step: the last step whose line is kept; a resumed run writes the later ones again.
    """

    def __init__(self, path: Path, *, step: int = 0) -> None:
        self._path = path
        text = _as_written(kept_lines(path, step))
        self._digest = hashlib.sha256(text)
        try:
            replace_file(path, text)
        except OSError as error:
            raise self._fault(error) from None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stepped):
            line = {key: value for key, value in asdict(event).items() if value is not None}
            try:
                append_line(self._path, json.dumps(line))
            except OSError as error:
                raise self._fault(error) from None
            self._digest.update(_as_written([line]))

    def digest(self) -> str:
        """SHA-256 of the lines so far, for `lines_fault` to compare them by."""
        return self._digest.hexdigest()

    def flush(self) -> None:
        """See that every line is on the disk: a checkpoint without the lines of its steps is of no use."""
        try:
            flush_file(self._path)
        except OSError as error:
            raise self._fault(error) from None

    def _fault(self, error: OSError) -> RunError:
        return write_error(str(self._path), error, fix="free some space and give the same command again: it goes on")


def kept_lines(path: Path, step: int) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl` that a run keeps which goes on after `step`.

    Raises:
        RunError: there is not one for each step.
    """
    lines = read_metrics(path, steps=step)
    if len(lines) < step:
        raise RunError(f"{path} has not a line for each step up to {step}", fix="begin the run anew")
    return lines


def lines_fault(path: Path, step: int, digest: str) -> str:
    """Why the lines of `path` up to `step` are not those with this `digest`; "" where they are, or it is "".

    What decides the best step, the size of forests and the steps left out is read from them when a run goes on.
    """
    try:
        lines = kept_lines(path, step)
    except RunError as error:
        return error.what
    changed = digest and digest != hashlib.sha256(_as_written(lines)).hexdigest()
    return f"{path} was changed: its lines up to step {step} are not those that the run wrote" if changed else ""


def read_metrics(path: Path, *, steps: int | None = None) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; one that a crash left unfinished is not counted.

    Args:
        steps: so many of them are read; None for all.

    Raises:
        RunError: one is not the record of its step.
    """
    if not path.exists():
        return []
    lines = []
    for number, text in enumerate(path.read_bytes().split(b"\n")[:-1][:steps], start=1):
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            line = None
        if not isinstance(line, dict) or type(line.get("step")) is not int or line["step"] != number:
            raise RunError(
                f"{path}:{number} is broken: it is not the record of step {number}", fix="begin the run anew"
            )
        lines.append(line)
    return lines


def _as_written(lines: Iterable[Mapping[str, Any]]) -> bytes:
    return "".join(f"{json.dumps(line)}\n" for line in lines).encode()
