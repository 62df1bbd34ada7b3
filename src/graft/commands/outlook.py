"""`graft train --dry-run`: what a run would do, and what it would be refused for; nothing is written."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from graft.commands.preparation import Prepared, check_libraries, look_in, prepare, run_in
from graft.config import Config
from graft.forest import plant_batch


@dataclass(frozen=True)
class Outlook:
    """What a run would do, from its first step to its last.

    Args:
        tokens_logical: of its first epoch, as are the other two.
        notes: how the rows were read, and of a run that is there, how far it got.
    """

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


def outlook(config: Config, out: Path | None = None, *, resume: bool = False, allow: Sequence[str] = ()) -> Outlook:
    """What `train` would do with `config`, without doing it: the data are read and laid out, the model is loaded.

    Args:
        out: the run's folder, where it is known. What is there is looked at as `train` would, by `resume` and `allow`.

    Raises:
        GraftError: `train` would raise it before the first step.
    """
    notes: list[str] = []
    if out is None:
        check_libraries(config)
        return _outlook(prepare(config, notes.append), notes)
    _, standing = look_in(config, out, resume=resume, allow=allow)
    if standing == "finished":
        return Outlook(0, 0, 0, 0, 0, 0, 0, [f"{out} holds this run, finished: there is nothing to do"])
    prepared = prepare(config, notes.append, continues=out if standing == "unfinished" else None)
    run_in(out, prepared, notes.append).go_back(standing, prepared.training)
    return _outlook(prepared, notes)


def _outlook(prepared: Prepared, notes: list[str]) -> Outlook:
    training, adapter, samples = prepared.training, prepared.adapter, prepared.samples
    batches = training.batches
    forests = [
        forest
        for step in range(1, min(batches.total_steps, batches.steps_per_epoch) + 1)
        for forest in plant_batch(
            [training.bank.prompted(replace(sample, adapter_slot=training.slot)) for sample in batches.of_step(step)],
            max_tokens=training.max_tokens,
            share=adapter.deterministic,
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
        notes=notes,
    )
