"""The contest: every contender takes its turn in each round, and its losses are held against Graft's at once."""

import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from graft.bench.figures import WARM_UP, Figures, Work, figures, largest_difference
from graft.bench.flops import Weights
from graft.bench.limit import LIMIT
from graft.bench.peers import INSTALL, OURS, PEERS, lacking, own_of
from graft.bench.turn import Failed, Ran, Task, take_turn
from graft.config import Config
from graft.errors import RunError
from graft.runtime import pick_device, stream_dtype

Say = Callable[[str], None]


@dataclass
class Contest:
    """The contenders, round by round.

    Args:
        files: of the rows in order and in the order grouped by length, by `Own.grouped`.
        work: of each step of these orders.
        folder: for everything that the contenders are given and write.
    """

    config: Config
    weights: Weights
    adapter: Path
    files: dict[bool, Path]
    work: dict[bool, list[Work]]
    folder: Path
    say: Say
    entered: list[str] = field(default_factory=list)
    turns: dict[str, list[Ran]] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    differences: dict[str, float] = field(default_factory=dict)
    measured: dict[str, list[float]] = field(default_factory=dict)

    def enter(self, peers: Sequence[str]) -> dict[str, str]:
        """Settle who takes part; returns the peers that cannot, each with the reason."""
        missing = {}
        for name in peers:
            if modules := lacking(PEERS[name]):
                missing[name] = f"{', '.join(modules)} not installed: {INSTALL}"
                self.say(f"{name}: {missing[name]}")
        for own in OURS:
            beside = [name for name in peers if PEERS[name].beside == own]
            if beside or not peers:
                self.entered += [own, *(name for name in beside if name not in missing)]
        return missing

    def hold_round(self, label: str) -> None:
        """Let each contender, and the machine itself, take a turn."""
        for dtype in dict.fromkeys(_product_dtype(name) for name in self.entered):
            task = {"contender": LIMIT, "dtype": dtype, "shapes": self.weights.shapes}
            answer = self._turn(LIMIT, task)
            if isinstance(answer, Failed):
                raise self._broken(LIMIT, answer)
            self.measured.setdefault(dtype, []).append(answer["flops_per_s"])
            self.say(f"{label}: matrix products in {dtype}: {answer['flops_per_s'] / 1e9:.0f} GFLOP/s")
        for name in self.entered:
            if name not in self.failed:
                self._compete(name, label)

    def limits(self) -> dict[str, float]:
        """FLOP/s by the dtype of the products."""
        return {dtype: statistics.median(rates) for dtype, rates in self.measured.items()}

    def figures(self) -> dict[str, Figures]:
        """Those of every contender that came to its end in every round."""
        limits = self.limits()
        return {
            name: figures(
                self.turns[name],
                self.work[own_of(name).grouped],
                limit=limits[_product_dtype(name)],
                beside=None if name in OURS else PEERS[name].beside,
                loss_difference=self.differences.get(name),
            )
            for name in self.entered
            if name not in self.failed
        }

    def _compete(self, name: str, label: str) -> None:
        own = own_of(name)
        model = self.config.model.model_copy(update={"dtype": own.dtype})
        config = self.config.model_copy(update={"model": model})
        answer = self._turn(name, Task(name, config, str(self.files[own.grouped]), str(self.adapter)).as_json())
        if isinstance(answer, Failed):
            if name in OURS:
                raise self._broken(name, answer)
            self.failed[name] = answer.reason
            self.say(f"{label}: {name} failed: {answer.reason}")
            return
        ran = Ran.read(answer)
        if name in PEERS:
            beside = PEERS[name].beside
            difference = largest_difference(name, ran.laps, beside, self.turns[beside][-1].laps, own.dtype)
            self.differences[name] = max(difference, self.differences.get(name, 0.0))
        self.turns.setdefault(name, []).append(ran)
        seconds = sum(lap.seconds for lap in ran.laps[WARM_UP:])
        self.say(f"{label}: {name}: {len(ran.laps) - WARM_UP} steps in {seconds:.1f} s")

    def _turn(self, name: str, task: Mapping[str, Any]) -> dict[str, Any] | Failed:
        folder = Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.folder))
        return take_turn(task, folder)

    def _broken(self, name: str, failed: Failed) -> RunError:
        if failed.log:
            self.say(failed.log)
        return RunError(f"{name}: {failed.reason}", fix="mend that first: without it there is nothing to compare")


def _product_dtype(name: str) -> str:
    """The type in which this machine multiplies weights of the contender's type fastest."""
    stored: torch.dtype = getattr(torch, own_of(name).dtype)
    return str(stream_dtype(pick_device(), stored)).removeprefix("torch.")
