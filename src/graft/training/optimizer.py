"""AdamW over an adapter's parameters, and the learning rate of each step."""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import nn
from torch.optim import AdamW

from graft.config import TrainConfig
from graft.errors import RunError


def build_optimizer(parameters: Sequence[tuple[str, nn.Parameter]], settings: TrainConfig) -> AdamW:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) with weight decay on matrices only."""
    matrices = [parameter for _, parameter in parameters if parameter.ndim >= 2]
    vectors = [parameter for _, parameter in parameters if parameter.ndim < 2]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return AdamW([group for group in groups if group["params"]], lr=settings.learning_rate, fused=True)


def learning_rate(step: int, total_steps: int, settings: TrainConfig) -> float:
    """The rate of `step`, from 1: a linear rise to the peak, then the schedule, which reaches 0 just after the last.

    No step has the rate 0, so none is computed for nothing.
    """
    warmup = min(settings.warmup_steps, total_steps)
    if step < warmup:
        return settings.learning_rate * step / warmup
    done = (step - warmup) / (total_steps - warmup + 1)
    factor = {"constant": 1.0, "linear": 1.0 - done, "cosine": 0.5 * (1.0 + math.cos(math.pi * done))}
    return settings.learning_rate * factor[settings.schedule]


def optimizer_tensors(optimizer: AdamW, parameters: Sequence[tuple[str, nn.Parameter]]) -> dict[str, torch.Tensor]:
    """The optimizer's state under the parameters' names: `NAME.exp_avg`, `NAME.exp_avg_sq`, `NAME.step`."""
    return {
        f"{name}.{key}": value.detach().cpu().contiguous()
        for name, parameter in parameters
        for key, value in optimizer.state[parameter].items()
    }


def restore_optimizer(
    optimizer: AdamW, parameters: Sequence[tuple[str, nn.Parameter]], tensors: Mapping[str, torch.Tensor]
) -> None:
    """Put back what `optimizer_tensors` gave.

    Raises:
        RunError: the tensors are not those of these parameters.
    """
    keys = ("step", "exp_avg", "exp_avg_sq")
    expected = {f"{name}.{key}" for name, _ in parameters for key in keys}
    if expected != set(tensors):
        odd = ", ".join(sorted(expected ^ set(tensors))[:5])
        raise RunError(f"the optimizer's state is of other parameters: {odd}", fix="resume with the settings it had")
    for name, parameter in parameters:
        optimizer.state[parameter] = {
            # `step` stays where AdamW keeps it: on the CPU, or beside the parameter when fused
            key: tensors[f"{name}.{key}"].clone().to(parameter.device)
            for key in keys
        }
