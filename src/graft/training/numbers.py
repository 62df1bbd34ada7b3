"""Numbers gone wrong: whose they are, and whether a loss is out of line."""

import statistics
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from graft.adapters import Bank
from graft.errors import RunError
from graft.forest import edge_losses, forest_hidden_states, heads_of, plant
from graft.records import TokenSequence
from graft.training.gradient import Gradient

_SHOWN = 5  # rows named before "and n more"

WINDOW, FEWEST = 50, 16
"""Steps that a loss is held against, and how many there have to be."""

_DEVIATIONS = 10
"""Median absolute deviations above the median. Losses have a long tail upwards: 6 would warn of 23 in 2,748 steps of
the seedling where nothing is wrong, 10 warns of 3."""

_SHARE = 0.1
"""Of the median: a run whose loss hardly moves is not to warn of every ripple."""

_NAMED = 3  # rows that a spike is put down to


@dataclass
class BadNumbers:
    """What becomes of a step whose loss or gradient is not finite.

    Args:
        action: stop; skip: its update is not made; roll_back: nor are those since the newest checkpoint.
        budget: how many steps may be left out so.
        left_out: how many were.
    """

    action: Literal["stop", "skip", "roll_back"] = "stop"
    budget: int = 0
    left_out: int = 0

    def judge(self, step: int, loss: float, norm: float, rows: str) -> str:
        """Why `step` is left out.

        Raises:
            RunError: it may not be.
        """
        what = f"loss {loss} and gradient norm {norm} are not both finite. {rows}"
        fix = "begin anew with a lower train.learning_rate or without these rows; or go on with {} in the same command"
        if self.action == "stop":
            way = "--set bad_numbers.action=skip --set bad_numbers.budget=1 --allow bad_numbers.action"
            fix = fix.format(f"{way} --allow bad_numbers.budget")
            raise RunError(f"step {step}: {what}; the weights are those of step {step - 1}", fix=fix)
        if self.left_out >= self.budget:
            spent = f"bad_numbers.budget {self.budget} is spent"
            fix = fix.format(f"--set bad_numbers.budget={2 * self.budget} --allow bad_numbers.budget")
            raise RunError(f"step {step}: {what}; {spent}; the weights are those of the step before", fix=fix)
        return what


def rows_at_fault(gradient: Gradient, samples: Sequence[TokenSequence]) -> list[TokenSequence]:
    """The samples that have no finite loss or gradient by themselves."""
    return [sample for sample in samples if not gradient.alone(sample)]


def blame(guilty: Sequence[TokenSequence], samples: Sequence[TokenSequence]) -> str:
    """In words: which of a step's `samples` its bad numbers come of."""
    if not guilty:
        return f"None of its rows gives such numbers by itself: {rows_of(samples)}"
    if len(guilty) == len(samples) > 1:
        return f"Each of its rows gives such numbers by itself, as weights gone wrong do: {rows_of(samples)}"
    return f"At fault: {rows_of(guilty)}"


class LossWatch:
    """Tells a loss that is out of line with those of the last steps."""

    def __init__(self) -> None:
        self._losses: deque[float] = deque(maxlen=WINDOW)

    def note(self, loss: float) -> None:
        self._losses.append(loss)

    def limit(self) -> float | None:
        """Above it a loss is a spike; None as long as too few are known."""
        if len(self._losses) < FEWEST:
            return None
        median = statistics.median(self._losses)
        deviation = statistics.median(abs(loss - median) for loss in self._losses)
        return median + max(_DEVIATIONS * deviation, _SHARE * median)


def worst_rows(bank: Bank, slot: int, samples: Sequence[TokenSequence]) -> list[str]:
    """Where the samples of the highest loss stand, each with its loss, which is measured by itself without dropout."""
    losses = [(_loss(bank, slot, sample), sample) for sample in samples if sample.trained_tokens]
    losses.sort(key=lambda pair: -pair[0])
    return [f"{sample.source} (loss {loss:.4f})" for loss, sample in losses[:_NAMED]]


@torch.no_grad()
def _loss(bank: Bank, slot: int, sample: TokenSequence) -> float:
    forest = plant([sample])
    with bank.routed(forest.routes(), needed=forest.edges.distinct_sources):
        hidden = forest_hidden_states(bank.model, forest)
    losses = edge_losses(heads_of(bank.model, forest.routes()), hidden, forest.edges)
    return float((losses * forest.edges.weights).sum()) / forest.edges.total_weight


def rows_of(samples: Sequence[TokenSequence]) -> str:
    """Where samples stand in the data, the first few by name."""
    more = f" and {len(samples) - _SHOWN} more" if len(samples) > _SHOWN else ""
    return f"{', '.join(str(sample.source) for sample in samples[:_SHOWN])}{more}"
