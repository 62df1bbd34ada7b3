"""The process of one contender of `graft bench`: `python -m graft.commands.contender TASK ANSWER`.

What it reports goes into the file ANSWER; what it and its libraries say, to whoever started it.
"""

import json
import sys
import traceback
from dataclasses import asdict
from pathlib import Path
from typing import Any

from graft.adapters import Bank, load_adapter
from graft.bench import PEERS, InOrder, Ran, Task, Turn, load_encoded
from graft.bench.limit import LIMIT, measure_limit
from graft.bench.peers import run_peer
from graft.commands.assembly import open_base
from graft.commands.preparation import assemble
from graft.errors import GraftError
from graft.runtime import seed_everything
from graft.training import Event, Stepped


def main() -> int:
    """Take one turn; returns the exit code."""
    given, answer = map(Path, sys.argv[1:])
    task = json.loads(given.read_text(encoding="utf-8"))
    try:
        report = _take_turn(task, given.parent)
    except GraftError as error:
        print(f"{error.what} -> {error.fix}" if error.fix else error.what, file=sys.stderr)
        return error.exit_code
    answer.write_text(json.dumps(report), encoding="utf-8")
    return 0


def _take_turn(task: dict[str, Any], folder: Path) -> dict[str, Any]:
    if task["contender"] == LIMIT:
        return {"flops_per_s": measure_limit(task["shapes"], task["dtype"])}
    if task["contender"] in PEERS:
        return asdict(run_peer(Task.read(task), folder))
    return asdict(run_graft(Task.read(task)))


def run_graft(task: Task) -> Ran:
    """Train as `graft train` does."""
    config = task.config
    seed_everything(config.train.seed)
    base = open_base(config.model)
    bank = Bank(base.model)
    slot = bank.add(load_adapter(Path(task.adapter), base.model))
    batches = InOrder(load_encoded(Path(task.rows)), global_batch=config.train.global_batch)
    training = assemble(config, bank, slot, batches)

    def step(event: Event) -> None:
        if isinstance(event, Stepped):
            assert event.loss is not None, "a step that goes wrong ends the turn"
            assert event.grad_norm is not None
            turn.step(loss=event.loss, grad_norm=event.grad_norm, tokens_executed=event.tokens_executed)

    training.subscribers = [step]
    turn = Turn(base.model.device)
    training.run()
    return turn.ran()


if __name__ == "__main__":
    try:
        sys.exit(main())
    except Exception as error:  # the last line is what people are shown: one line, with the kind of the error
        traceback.print_exc()
        print(f"{type(error).__name__}: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(1)
