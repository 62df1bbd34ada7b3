"""Checkpoints: everything that the next step depends on, whole or not there at all.

The order of rows and dropout follow from the seed and the number of the step, so no random state needs to be kept.
"""

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn
from torch.optim import Optimizer
from transformers import PreTrainedModel

from graft.adapters import Adapter, Files, Provenance, adapter_files, refill
from graft.errors import AdapterError, DiskError, RunError, write_error
from graft.staging import check_room, manifest_fault, remove_folder, staged, sweep, write_file, write_manifest
from graft.tensor_file import TensorFile
from graft.training.events import Stepped
from graft.training.optimizer import optimizer_tensors, restore_optimizer

_OPTIMIZER_FILE = "optimizer.safetensors"
_STATE_FILE = "state.json"
_NAME = re.compile(r"step-[0-9]{6,}")  # and not step-000100-copy, which people make
_ROOM_FOR_THE_REST = 1 << 20  # bytes: the small files, and what a file system takes for itself

_FREE_SOME = "free some space and give the same command again: it goes on from the newest whole checkpoint"


@dataclass(frozen=True)
class State:
    """Where a run stands.

    Args:
        step: the last step done.
        first_held_out_loss: before the first step; None where nothing is held out.
        settings: hash of those that may not change while the run goes on; "" where nobody compares.
        owed: the record of `step` where its held-out loss was still to be measured, and the step to be told of.
        lines: `MetricsFile.digest` of the steps that had been told of; "" where nobody compares.
    """

    step: int
    first_held_out_loss: float | None
    settings: str = ""
    owed: Stepped | None = None
    lines: str = ""

    @property
    def told(self) -> int:
        """The last step whose line is in `metrics.jsonl`."""
        return self.step - bool(self.owed)


class Checkpoints:
    """The checkpoints of one run.

    Args:
        folder: `checkpoints/` of the run.
        keep: how many of the newest stay.
        best: the step whose checkpoint stays as well, whatever its age; None for none.
        anchors: the newest checkpoint after a multiple of so many steps stays as well; 0 for none.
    """

    def __init__(self, folder: Path, *, keep: int, best: int | None = None, anchors: int = 0) -> None:
        self._folder = folder
        self._keep = keep
        self.best = best
        self._anchors = anchors

    def save(
        self, state: State, adapter: Adapter, optimizer: Optimizer, model: PreTrainedModel, provenance: Provenance
    ) -> Path:
        """Write the checkpoint after `state.step`, then remove the oldest beyond those kept."""
        return self.snapshot(state, adapter, optimizer, model, provenance)()

    def snapshot(
        self, state: State, adapter: Adapter, optimizer: Optimizer, model: PreTrainedModel, provenance: Provenance
    ) -> Callable[[], Path]:
        """Copy all that the checkpoint after `state.step` holds; returns what writes it, at any time, in any thread."""
        files = adapter_files(adapter, model, provenance)
        tensors = optimizer_tensors(optimizer, list(adapter.named_parameters()))
        files[_OPTIMIZER_FILE] = TensorFile(tensors, {"optimizer": type(optimizer).__name__})
        files[_STATE_FILE] = f"{json.dumps(asdict(state))}\n".encode()
        return lambda: self._write(state.step, files)

    def _write(self, step: int, files: Files) -> Path:
        target = self.folder_of(step)
        size = sum(file.size if isinstance(file, TensorFile) else len(file) for file in files.values())
        check_room(self._folder, size + _ROOM_FOR_THE_REST, f"the checkpoint after step {step}", fix=_FREE_SOME)
        try:
            with staged(target, replace=True) as folder:
                for name, content in files.items():
                    (folder / name).parent.mkdir(exist_ok=True)
                    write_file(folder / name, content)
                write_manifest(folder)
            self._remove_old(target)
        except OSError as error:
            raise write_error(f"the checkpoint {target}", error, fix=_FREE_SOME) from None
        return target

    def _remove_old(self, newest: Path) -> None:
        if fault := manifest_fault(newest):  # then an older one may be the last that is whole
            raise DiskError(f"what was written is not what is read: {fault}", fix="see to the disk; resume on another")
        kept = self._folders()[-self._keep :]
        if self._anchors:
            kept += [folder for folder in self._folders() if not _step_of(folder) % self._anchors][-1:]
        for folder in self._folders():
            if folder not in kept and _step_of(folder) != self.best:
                remove_folder(folder)

    def check_room(self, adapter: Adapter) -> None:
        """Raise a DiskError if the disk has no room for the checkpoints that are kept, one more, and the result.

        Adapter and optimizer are taken as three numbers of four bytes for each parameter, which none exceeds.
        """
        there = sum(file.stat().st_size for file in self._folder.rglob("*") if file.is_file())
        kept = self._keep + 1 + bool(self._anchors)  # the newest, the best, and the one to roll back to
        needed = 4 * adapter.trained_parameters * (3 * (kept + 1) + 1) - there + _ROOM_FOR_THE_REST
        fix = "free some space, lower checkpoint.keep, or give --out on another disk"
        check_room(self._folder, needed, f"the run, with checkpoint.keep {self._keep},", fix=fix)

    def fault_of(self, step: int) -> str:
        """Why the checkpoint after `step` cannot be used; "" where it can."""
        return manifest_fault(self.folder_of(step))

    def folder_of(self, step: int) -> Path:
        return self._folder / f"step-{step:06d}"

    def newest(self, further: Callable[[State], str] = lambda state: "") -> tuple[Path | None, list[str]]:
        """The newest checkpoint that is whole and can be gone on from, and why each newer one is not.

        Args:
            further: why a run cannot go on from such a state; "" where it can.
        """
        faults: list[str] = []
        for folder in reversed(self._folders()):
            fault = manifest_fault(folder) or further(read_state(folder))
            if not fault:
                return folder, faults
            faults.append(fault)
        return None, faults

    def forget_after(self, step: int) -> None:
        """Remove what a broken-off run left behind: checkpoints later than `step` and unfinished ones.

        A run that goes on from `step` writes the later ones again; the broken would pass for the newest.
        """
        sweep(self._folder)
        for folder in self._folders():
            if _step_of(folder) > step:
                remove_folder(folder)

    def _folders(self) -> list[Path]:
        named = (folder for folder in self._folder.glob("step-*") if _NAME.fullmatch(folder.name))
        return sorted((folder for folder in named if folder.is_dir()), key=_step_of)


def _step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def read_state(folder: Path) -> State:
    """Where the run stood in the checkpoint `folder`."""
    said: dict[str, Any] = json.loads((folder / _STATE_FILE).read_bytes())
    try:
        owed = said.pop("owed", None)
        return State(**said, owed=Stepped(**owed) if owed else None)
    except TypeError as error:
        what = f"{folder / _STATE_FILE} is of another version of Graft: {error}"
        raise RunError(what, fix="go on with that version") from None


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
    return read_state(folder)


def _check_optimizer(folder: Path, name: str) -> None:
    with safe_open(folder / _OPTIMIZER_FILE, framework="pt") as file:
        saved = (file.metadata() or {}).get("optimizer", "an optimizer without a name")
    if saved != name:
        what = f"{folder} holds the state of {saved}, and this run's optimizer is {name}"
        raise RunError(what, fix="resume with the train.optimizer it had")
