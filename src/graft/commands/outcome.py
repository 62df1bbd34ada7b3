"""What a finished run came to: written when it is handed over, read when the same command is given again."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from graft.commands.resume import RESULT_FILE
from graft.errors import RunError
from graft.staging import replace_file


@dataclass(frozen=True)
class Outcome:
    """What a finished run came to.

    Args:
        steps: that were done.
        first_loss: held-out, before training.
        last_loss: held-out, as it was measured last.
        best_step: the one whose adapter is handed over.
        best_loss: held-out, after it.
        stopped: why before the last step; "" where that was done.
    """

    steps: int
    first_loss: float | None
    last_loss: float | None
    best_step: int
    best_loss: float | None
    stopped: str


def write_outcome(out: Path, outcome: Outcome) -> None:
    replace_file(out / RESULT_FILE, f"{json.dumps(asdict(outcome))}\n".encode())


def result_in(out: Path, say: Callable[[str], None]) -> Outcome:
    """What the finished run in `out` came to, which is said."""
    path = out / RESULT_FILE
    try:
        outcome = Outcome(**json.loads(path.read_bytes()))
    except (TypeError, ValueError):
        raise RunError(f"{path} is not what Graft writes", fix="delete it, and give the same command again") from None
    say(f"{out} holds this run, finished: there is nothing to do")
    if outcome.stopped:
        say(f"it stopped after step {outcome.steps}: {outcome.stopped}")
    return outcome
