"""The learning rate of each step."""

import math

from graft.config import TrainConfig


def learning_rate(step: int, total_steps: int, settings: TrainConfig, *, steps_per_epoch: int) -> float:
    """The rate of `step`, from 1: a linear rise to the peak, then the schedule.

    cosine and linear reach the ratio at which they end just after the last step: where that is 0, no step has the rate
    0, so none is computed for nothing. Under `step`, an epoch that ends within the warm-up takes nothing off the peak.
    """
    warmup = min(settings.warmup_steps, total_steps)
    if step < warmup:
        return settings.learning_rate * step / warmup
    done = (step - warmup) / (total_steps - warmup + 1)
    epochs = (step - 1) // steps_per_epoch - max(warmup - 1, 0) // steps_per_epoch
    end = settings.min_learning_rate_ratio
    share = {
        "constant": 1.0,
        "linear": end + (1.0 - end) * (1.0 - done),
        "cosine": end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * done)),
        "step": settings.step_gamma**epochs,
    }
    return settings.learning_rate * share[settings.schedule]
