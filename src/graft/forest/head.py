"""The output head as its family defines it: what lies between the last hidden states and the logits."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Head:
    """logits = softcap * tanh(scale * (W h + b) / softcap), or without the cap where there is none.

    Args:
        linear: W (V, hidden) and b (V,).
    """

    linear: nn.Linear
    scale: float = 1.0
    softcap: float | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of last hidden states (..., hidden)."""
        logits: Tensor = self.linear(hidden)
        if self.scale != 1.0:
            logits = logits * self.scale
        return logits if self.softcap is None else torch.tanh(logits / self.softcap) * self.softcap


def head_of(model: PreTrainedModel) -> Head:
    """The head of a model of a supported family.

    Granite divides its logits by `logits_scaling`, Cohere multiplies them by `logit_scale`, Gemma 2 caps them at
    `final_logit_softcapping`; other families do none of it.
    """
    linear = model.get_output_embeddings()
    assert isinstance(linear, nn.Linear)
    config = model.config
    scale = getattr(config, "logit_scale", None) or 1.0
    return Head(
        linear,
        scale=scale / (getattr(config, "logits_scaling", None) or 1.0),
        softcap=getattr(config, "final_logit_softcapping", None),
    )
