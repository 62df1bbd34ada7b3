"""What the forward pass leaves for the backward: kept, computed again, or put into the host's memory."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel


@contextmanager
def saved_activations(model: PreTrainedModel, *, recompute: int, offload: bool) -> Iterator[None]:
    """Within this block, forward and backward passes save activations as told; the gradients are the same.

    Args:
        recompute: every how many layers only a layer's input is kept, and the layer run again in the backward pass
            (Chen et al. 2016, arXiv 1604.06174); 1 for every layer, 0 for none.
        offload: what is kept waits in the host's memory, pinned.
    """
    layers = list(cast(nn.ModuleList, model.base_model.layers))
    again = layers[recompute - 1 :: recompute] if recompute else []
    for layer in again:
        layer.forward = _run_again(layer.forward)
    try:
        with torch.autograd.graph.save_on_cpu(pin_memory=True) if offload else nullcontext():
            yield
    finally:
        for layer in again:
            del layer.forward


def _run_again(forward: Callable[..., Any]) -> Callable[..., Any]:
    # the layer's own arguments, the forest among them, are kept by reference
    return partial(checkpoint, forward, use_reentrant=False)
