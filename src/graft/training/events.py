"""What a run says of itself while it goes on, and `metrics.jsonl`, which keeps it."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
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
        loss: mean over the step's trained tokens, in nats.
        lr: learning rate of the step.
        grad_norm: L2 norm of the gradient before clipping.
        tokens_logical: tokens of the samples.
        tokens_executed: tokens that the model ran, fewer where samples share a prefix.
        peak_memory_bytes: the most in use since the run began.
        held_out_loss: where it was measured after this step.
    """

    step: int
    time: float
    loss: float
    lr: float
    grad_norm: float
    samples: int
    tokens_logical: int
    tokens_executed: int
    tokens_trained: int
    peak_memory_bytes: int
    held_out_loss: float | None = None


@dataclass(frozen=True)
class Saved:
    """A checkpoint stands complete in `folder`."""

    step: int
    folder: Path


Event = Started | Stepped | Saved
Subscriber = Callable[[Event], None]


class MetricsFile:
    """Writes `metrics.jsonl`: one line a step.

    Args:
        step: the last step whose line is kept; a resumed run writes the later ones again.
    """

    def __init__(self, path: Path, *, step: int = 0) -> None:
        kept = [line for line in read_metrics(path) if line["step"] <= step] if step else []
        if [line["step"] for line in kept] != list(range(1, step + 1)):
            raise RunError(f"{path} has not a line for each step up to {step}", fix="begin the run anew")
        self._path = path
        text = "".join(f"{json.dumps(line)}\n" for line in kept)
        try:
            replace_file(path, text.encode())
        except OSError as error:
            raise self._fault(error) from None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Stepped):
            line = {key: value for key, value in asdict(event).items() if value is not None}
            try:
                append_line(self._path, json.dumps(line))
            except OSError as error:
                raise self._fault(error) from None

    def flush(self) -> None:
        """See that every line is on the disk: a checkpoint without the lines of its steps is of no use."""
        try:
            flush_file(self._path)
        except OSError as error:
            raise self._fault(error) from None

    def _fault(self, error: OSError) -> RunError:
        return write_error(str(self._path), error, fix="free some space and give the same command again: it goes on")


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """The lines of a `metrics.jsonl`; one that a crash left unfinished is not counted."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").split("\n")[:-1]
    try:
        return [json.loads(line) for line in lines]
    except ValueError as error:
        raise RunError(f"{path} is broken: {error}", fix="begin the run anew") from None
