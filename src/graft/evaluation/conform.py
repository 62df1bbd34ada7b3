"""Proof that one model answers as another: the merged one as base and adapter."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graft.adapters import Bank
from graft.errors import ProofError
from graft.forest import forest_hidden_states, head_of, plant
from graft.infer import Engine, Request
from graft.records import TokenSequence

TOLERANCES = {torch.float64: 1e-6, torch.float32: 1e-4, torch.float16: 2e-2, torch.bfloat16: 5e-2}
"""Largest difference of a logit, as a share of the largest logit: what rounding merged weights to the type can do."""

_ANSWER_TOKENS = 32  # greedy tokens after each probe


@dataclass(frozen=True)
class Statement:
    """What a model answers to probes.

    Args:
        answers: greedy tokens after each probe.
        logits: for each probe, what the model says after it and after each token of the answer that it was led
            along (tokens + 1, V), float32.
        stop_ids: the tokens that end an answer.
    """

    answers: list[list[int]]
    logits: list[Tensor]
    stop_ids: Sequence[int]


@dataclass(frozen=True)
class Conformance:
    """How a model compares with the one that it was made from.

    Args:
        difference: largest difference of a logit, as a share of the largest logit.
        tolerance: what it may be at most: what rounding to the type can do, and no more than half of what the adapter
            does, so that a merge that did nothing never passes.
        positions: how many positions' logits were compared, each over the whole vocabulary.
        answers: greedy answers compared.
        tied: how many part where the two tokens' logits lie within the tolerance of each other.
        parted: how many part elsewhere.
    """

    difference: float
    tolerance: float
    positions: int
    answers: int
    tied: int
    parted: int

    @property
    def holds(self) -> bool:
        return self.difference <= self.tolerance and not self.parted

    def __str__(self) -> str:
        same = self.answers - self.tied - self.parted
        ties = f", {self.tied} part at a tie" if self.tied else ""
        parted = f", {self.parted} part for no such reason" if self.parted else ""
        return (
            f"logits differ by {self.difference:.1e} of the largest (tolerance {self.tolerance:.0e}, "
            f"{self.positions} positions); {same} of {self.answers} greedy answers are the same{ties}{parted}"
        )


@torch.inference_mode()
def interrogate(
    bank: Bank,
    slot: int | None,
    probes: Sequence[Sequence[int]],
    stop_ids: Sequence[int],
    *,
    led_along: Sequence[Sequence[int]] | None = None,
) -> Statement:
    """Ask a model (the adapter in `slot`, or None for the base).

    Args:
        led_along: answers along which the logits are taken; its own greedy ones unless given.
    """
    answers = Engine(bank, stop_ids).complete([Request(probe, slot, _ANSWER_TOKENS) for probe in probes])
    logits = []
    for probe, answer in zip(probes, led_along or answers, strict=True):
        ids = (*probe, *answer)
        forest = plant([bank.prompted(TokenSequence(ids, (False,) * len(ids), adapter_slot=slot))])
        with bank.routed(forest.routes()):
            hidden = forest_hidden_states(bank.model, forest)
        logits.append(head_of(bank.model, slot)(hidden[-len(answer) - 1 :]).cpu())
    return Statement(answers, logits, stop_ids)


def compare(expected: Statement, found: Statement, base: Statement, dtype: torch.dtype) -> Conformance:
    """Hold `found` against `expected`.

    Args:
        found: of the model in question, led along the answers of `expected`.
        base: of the base without the adapter, led along them as well.
        dtype: of the found weights.

    Raises:
        ProofError: a logit is no finite number.
    """
    if not all(bool(torch.isfinite(logits).all()) for s in (expected, found, base) for logits in s.logits):
        raise ProofError("a model's logits are no finite numbers", fix="use another model.dtype")
    largest = max(float(logits.abs().max()) for logits in expected.logits) or 1.0
    difference = _difference(expected, found) / largest
    effect = _difference(expected, base) / largest
    tolerance = min(TOLERANCES[dtype], max(effect / 2, TOLERANCES[torch.float32]))
    tied = parted = 0
    for logits, mine, other in zip(expected.logits, expected.answers, found.answers, strict=True):
        if mine == other:
            continue
        if _parts_at_a_tie(logits, mine, other, expected.stop_ids, tolerance * largest):
            tied += 1
        else:
            parted += 1
    return Conformance(
        difference=difference,
        tolerance=tolerance,
        positions=sum(map(len, expected.logits)),
        answers=len(expected.answers),
        tied=tied,
        parted=parted,
    )


def _difference(one: Statement, other: Statement) -> float:
    return max(float((a - b).abs().max()) for a, b in zip(one.logits, other.logits, strict=True))


def _parts_at_a_tie(logits: Tensor, mine: list[int], other: list[int], stop_ids: Sequence[int], within: float) -> bool:
    """Whether `other`, where it first parts from `mine`, takes or stops at a token that is nearly as likely."""
    place = next((i for i, (a, b) in enumerate(zip(mine, other, strict=False)) if a != b), min(len(mine), len(other)))
    row = logits[place]
    taken = other[place : place + 1] or list(stop_ids)
    return bool(taken) and float(row.max() - row[taken].max()) <= within
