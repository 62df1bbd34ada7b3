"""The regions of a model that gain from `torch.compile`: its norms.

A norm is six passes over the stream in eager mode and one compiled: measured 2 to 4 times faster on a CPU. What else
runs between matrix products gains nothing there (rotary embeddings, gated activations) or is no graph (attention over
segments, low-rank products); see docs/engine.md.
"""

import torch
from torch import nn
from transformers import PreTrainedModel

from graft.errors import ConfigError
from graft.runtime import stream_dtype


def compile_norms(model: PreTrainedModel) -> None:
    """Compile every norm of `model` for streams of any length, and run one to see that it can be.

    Raises:
        ConfigError: there is no compiler that PyTorch can use.
    """
    from torch._dynamo.exc import BackendCompilerFailed  # takes seconds to import

    norms = [module for module in model.modules() if type(module).__name__.endswith("Norm")]
    for norm in norms:
        norm.compile(dynamic=True)  # one kernel for all: they differ in their weights alone
    try:
        _try(norms[-1], model)
    except BackendCompilerFailed as error:
        raise ConfigError(
            f"train.compile: {str(error.inner_exception).strip().splitlines()[0]}",
            fix="install a C++ compiler such as g++, or leave train.compile off",
        ) from None


def _try(norm: nn.Module, model: PreTrainedModel) -> None:
    dtype = stream_dtype(model.device, model.dtype)
    size = model.config.hidden_size
    norm(torch.ones(1, 3, size, dtype=dtype, device=model.device, requires_grad=True)).sum().backward()
