"""One turn of one contender: a process of its own, so that its peak memory and the machine's cores are its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from graft.config import Config, build_config
from graft.errors import GraftError
from graft.runtime import PeakMemory

ENTRY = "graft.commands.contender"  # where everything is wired together
_KILLED = "it was killed by signal {signal}; signal 9 is most often the system's answer to memory running out"


@dataclass(frozen=True)
class Task:
    """What a contender is to do.

    Args:
        contender: its name.
        config: settings; `model.path` is a folder, `model.dtype` the contender's own.
        rows: file of encoded rows, in order.
        adapter: folder of the LoRA that all begin with, in PEFT's format.
    """

    contender: str
    config: Config
    rows: str
    adapter: str

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "config": self.config.model_dump()}

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> "Task":
        return cls(**{**content, "config": build_config(content["config"])})


@dataclass(frozen=True)
class Lap:
    """One optimizer step.

    Args:
        loss: mean over its trained tokens, in nats.
        grad_norm: L2 norm of the gradient before clipping.
        tokens_executed: tokens that went through the model, padding included.
    """

    loss: float
    grad_norm: float
    seconds: float
    tokens_executed: int


@dataclass(frozen=True)
class Ran:
    """A turn that came to its end.

    Args:
        peak_memory_bytes: while it trained: the device's on CUDA, else the process's resident set.
        loaded_memory_bytes: likewise just before the first step, model and libraries loaded.
    """

    laps: list[Lap]
    peak_memory_bytes: int
    loaded_memory_bytes: int

    @classmethod
    def read(cls, content: Mapping[str, Any]) -> "Ran":
        return cls(**{**content, "laps": [Lap(**lap) for lap in content["laps"]]})


@dataclass(frozen=True)
class Failed:
    """A turn that did not.

    Args:
        reason: the last line that it said.
        log: all that it said, where that is more than an error that a user can act on.
    """

    reason: str
    log: str


class Turn:
    """Takes the time of each step, from the end of the one before, and the memory of all of them."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._laps: list[Lap] = []
        self._memory = PeakMemory(device)
        self._loaded = self._memory.bytes()  # the peak of a moment is what is in use
        self._last = self._now()

    def step(self, *, loss: float, grad_norm: float, tokens_executed: int) -> None:
        """A step is done."""
        now = self._now()
        self._laps.append(Lap(loss, grad_norm, now - self._last, tokens_executed))
        self._last = now

    def ran(self) -> Ran:
        return Ran(self._laps, self._memory.bytes(), self._loaded)

    def _now(self) -> float:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()


def take_turn(task: Mapping[str, Any], folder: Path) -> dict[str, Any] | Failed:
    """Run `task`, be it a `Task` or the machine's limit, in a new process; returns what it reports.

    Args:
        folder: exists, and is the process's to write in.
    """
    given, answer, log = folder / "task.json", folder / "answer.json", folder / "log.txt"
    given.write_text(json.dumps(dict(task)), encoding="utf-8")
    # -P: a file of the user's in the working folder must not stand in for a library.
    command = [sys.executable, "-P", "-m", ENTRY, str(given), str(answer)]
    with log.open("wb") as said:
        code = subprocess.run(
            command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, env=_environment()
        ).returncode
    text = log.read_text(encoding="utf-8", errors="replace")
    if code == 0 and answer.exists():
        content: dict[str, Any] = json.loads(answer.read_text(encoding="utf-8"))
        return content
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    reason = _KILLED.format(signal=-code) if code < 0 else lines[-1] if lines else f"it ended with exit code {code}"
    return Failed(reason, "" if code == GraftError.exit_code else text)


def _environment() -> dict[str, str]:
    """Every contender has the threads that this process has, one device, and no network: the model is here."""
    first_device = os.environ.get("CUDA_VISIBLE_DEVICES", "0").split(",")[0]
    return {
        **os.environ,
        "OMP_NUM_THREADS": str(torch.get_num_threads()),
        "CUDA_VISIBLE_DEVICES": first_device,
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
