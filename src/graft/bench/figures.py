"""What the turns of a contender come to, and whether two contenders did the same training."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from graft.bench.turn import Lap, Ran
from graft.errors import ProofError

TOLERANCES = {"float32": 1e-3, "bfloat16": 1e-2}
"""How far the losses of a step may lie apart, relative to Graft's.

float32: sums in another order differ by 1e-7 at first; over 16 steps of the seedling at the rate 4e-3 it became 1e-5.
bfloat16 keeps 8 bits, 4e-3 of a number, and autocast rounds at other places than Graft, whose attention is float32 on a
CPU. Over a batch most of it cancels out: at the rate 3e-4 the seedling's losses, of 20 trained tokens a step, lay up to
2e-3 apart. At 4e-3 rounding grows from step to step, up to 8e-2, for Graft's own losses in bfloat16 against float32 as
well; no tolerance tells that from a mistake, so such a bench ends without figures.
"""
WARM_UP = 1  # steps of a turn that are not timed: the first sets up kernels, memory and the optimizer's state


@dataclass(frozen=True)
class Work:
    """What a step's samples hold.

    Args:
        needed_flops: what Graft has to compute for them, and so what anybody has to.
    """

    samples: int
    tokens_logical: int
    tokens_trained: int
    needed_flops: int


@dataclass(frozen=True)
class Figures:
    """A contender's figures over the timed steps, of which each has the median of its time over the rounds.

    Args:
        rounds: samples/s of each round by itself: how far they lie apart is how far the figures can be trusted.
        limit_share: the FLOPs that these samples need, a second, over those that the machine's matrix products reach.
            That limit is of the type in which the machine multiplies weights of the contender's dtype fastest: a CPU
            without instructions for bfloat16 does so in float32.
        losses: of every step, the warm-up's included.
        loss_difference: the largest relative difference to the losses of `beside`, where there is one.
        seconds: of every step in every round.
    """

    samples_per_s: float
    tokens_logical_per_s: float
    tokens_executed_per_s: float
    tokens_trained_per_s: float
    limit_share: float
    limit_flops_per_s: float
    peak_memory_bytes: int
    loaded_memory_bytes: int
    rounds: list[float]
    beside: str | None
    loss_difference: float | None
    losses: list[float]
    grad_norms: list[float]
    seconds: list[list[float]]

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def figures(
    turns: Sequence[Ran], work: Sequence[Work], *, limit: float, beside: str | None, loss_difference: float | None
) -> Figures:
    """The figures of one contender.

    Args:
        turns: one for each round.
        work: of each step.
        limit: FLOP/s of the machine's matrix products.
    """
    laps = [turn.laps[WARM_UP:] for turn in turns]
    timed = work[WARM_UP:]
    total = sum(statistics.median(lap.seconds for lap in step) for step in zip(*laps, strict=True))
    samples = sum(step.samples for step in timed)
    return Figures(
        samples_per_s=samples / total,
        tokens_logical_per_s=sum(step.tokens_logical for step in timed) / total,
        tokens_executed_per_s=sum(lap.tokens_executed for lap in laps[0]) / total,
        tokens_trained_per_s=sum(step.tokens_trained for step in timed) / total,
        limit_share=sum(step.needed_flops for step in timed) / total / limit,
        limit_flops_per_s=limit,
        peak_memory_bytes=max(turn.peak_memory_bytes for turn in turns),
        loaded_memory_bytes=max(turn.loaded_memory_bytes for turn in turns),
        rounds=[samples / sum(lap.seconds for lap in turn) for turn in laps],
        beside=beside,
        loss_difference=loss_difference,
        losses=[lap.loss for lap in turns[0].laps],
        grad_norms=[lap.grad_norm for lap in turns[0].laps],
        seconds=[[lap.seconds for lap in turn.laps] for turn in turns],
    )


def largest_difference(name: str, laps: Sequence[Lap], beside: str, theirs: Sequence[Lap], dtype: str) -> float:
    """The largest relative difference between the losses of `name` and those of `beside`, step by step.

    Raises:
        ProofError: it is not shown that they train the same: the numbers of steps differ, or losses lie further apart
            than the tolerance.
    """
    if len(laps) != len(theirs):
        raise ProofError(f"{name} took {len(laps)} steps and {beside} {len(theirs)}: they did not train the same")
    differences = [abs(one.loss - other.loss) / abs(other.loss) for one, other in zip(laps, theirs, strict=True)]
    for step, difference in enumerate(differences):
        if not difference <= TOLERANCES[dtype]:  # a loss that is no number is not within it either
            raise ProofError(
                f"step {step + 1}: the loss of {name} is {laps[step].loss:.6f}, that of {beside} "
                f"{theirs[step].loss:.6f}: a difference of {difference:.2e} of it, above {TOLERANCES[dtype]:g} for "
                f"{dtype}; it is not shown that they train the same, and no figure is given",
                fix="lower train.learning_rate: at a high one rounding alone drives two trainings apart",
            )
    return max(differences)
