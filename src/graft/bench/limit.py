"""The machine's own limit: how fast it multiplies by matrices of the model's shapes, when it does nothing else."""

import statistics
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from graft.runtime import pick_device

LIMIT = "limit"  # the name of its turn
_ROWS = 2048
"""Of the stream: a batch of 8 Alpaca samples has about as many."""
_HEAD_ROWS = 512
"""Edges whose logits exist at a time."""
_TIMES, _SECONDS = 5, 0.5
"""Each product is measured so often, or, where that is quick, until so much time is over."""


def measure_limit(shapes: Sequence[tuple[int, int, int, bool]], dtype: str) -> float:
    """FLOP/s over the linear layers of a model, each as often as it is there, forward and for the input's gradient.

    Args:
        shapes: as `Weights` has them.
        dtype: as `model.dtype` names it.
    """
    device = pick_device()
    operations = seconds = 0.0
    for out_features, in_features, count, is_head in shapes:
        rows = _HEAD_ROWS if is_head else _ROWS
        weight = torch.randn(out_features, in_features, device=device).to(getattr(torch, dtype))
        states = torch.randn(rows, in_features, device=device).to(weight)
        grad = torch.randn(rows, out_features, device=device).to(weight)
        seconds += count * (_median_seconds(states, weight.T) + _median_seconds(grad, weight))
        operations += count * 4.0 * rows * weight.numel()
    return operations / seconds


def _median_seconds(left: Tensor, right: Tensor) -> float:
    left @ right  # the first product sets things up
    taken: list[float] = []
    while len(taken) < _TIMES or (sum(taken) < _SECONDS and len(taken) < 100 * _TIMES):
        _wait(left)
        began = time.perf_counter()
        left @ right
        _wait(left)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken)


def _wait(tensor: Tensor) -> None:
    if tensor.is_cuda:
        torch.cuda.synchronize(tensor.device)
