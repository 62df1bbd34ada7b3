"""Checkpoints: everything that the next step depends on, whole or not there at all.

The order of rows and dropout follow from the seed and the number of the step, so no random state needs to be kept.
"""

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from graft.adapters import Adapter, Provenance, refill, save_adapter
from graft.errors import AdapterError, RunError
from graft.staging import manifest_fault, staged, write_manifest
from graft.training.optimizer import optimizer_tensors, restore_optimizer

_OPTIMIZER_FILE = "optimizer.safetensors"
_STATE_FILE = "state.json"


@dataclass(frozen=True)
class State:
    """Where a run stands.

    Args:
        step: the last step done.
        first_held_out_loss: before the first step; None where nothing is held out.
    """

    step: int
    first_held_out_loss: float | None


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: `checkpoints/` of the run.
        keep: how many of the newest stay.
    """

    def __init__(self, folder: Path, *, keep: int) -> None:
        self._folder = folder
        self._keep = keep

    def save(
        self, state: State, adapter: Adapter, optimizer: Optimizer, model: PreTrainedModel, provenance: Provenance
    ) -> Path:
        """Write the checkpoint after `state.step`, then remove the oldest beyond those kept."""
        target = self._folder / f"step-{state.step:06d}"
        with staged(target, replace=True) as folder:
            save_adapter(folder, adapter, model, provenance)
            parameters = list(adapter.named_parameters())
            tensors = optimizer_tensors(optimizer, parameters)
            save_file(tensors, folder / _OPTIMIZER_FILE, metadata={"optimizer": type(optimizer).__name__})
            (folder / _STATE_FILE).write_text(json.dumps(asdict(state)) + "\n")
            write_manifest(folder)
        for old in self._folders()[: -self._keep]:
            shutil.rmtree(old)
        return target

    def newest(self) -> tuple[Path | None, list[str]]:
        """The newest checkpoint that is whole, and why each newer one is not."""
        faults: list[str] = []
        for folder in reversed(self._folders()):
            fault = manifest_fault(folder)
            if not fault:
                return folder, faults
            faults.append(fault)
        return None, faults

    def forget_after(self, step: int) -> None:
        """Remove what a broken-off run left behind: checkpoints later than `step` and unfinished ones.

        A run that goes on from `step` writes the later ones again; the broken would pass for the newest.
        """
        for folder in (*self._folders(), *self._folder.glob(".step-*")):
            if folder.name.startswith(".") or _step_of(folder) > step:
                shutil.rmtree(folder)

    def _folders(self) -> list[Path]:
        return sorted((folder for folder in self._folder.glob("step-*") if folder.is_dir()), key=_step_of)


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def restore(folder: Path, adapter: Adapter, optimizer: Optimizer) -> State:
    """Put adapter and optimizer back as they are in `folder`; returns where the run stood.

    Raises:
        RunError: it is the state of another adapter or optimizer.
    """
    parameters: Sequence[tuple[str, nn.Parameter]] = list(adapter.named_parameters())
    _check_optimizer(folder, type(optimizer).__name__)
    try:
        refill(adapter, folder)
        restore_optimizer(optimizer, parameters, load_file(folder / _OPTIMIZER_FILE))
        refill(adapter, folder)  # again: an optimizer makes its state by a step at rate 0
    except AdapterError as error:
        raise RunError(f"{folder} holds another adapter: {error}", fix="resume with the settings it had") from None
    return State(**json.loads((folder / _STATE_FILE).read_text()))


def _check_optimizer(folder: Path, name: str) -> None:
    with safe_open(folder / _OPTIMIZER_FILE, framework="pt") as file:
        saved = (file.metadata() or {}).get("optimizer", "an optimizer without a name")
    if saved != name:
        what = f"{folder} holds the state of {saved}, and this run's optimizer is {name}"
        raise RunError(what, fix="resume with the train.optimizer it had")
