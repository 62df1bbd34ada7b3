"""The output head as its family defines it: what lies between the last hidden states and the logits.

V = vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel


@dataclass(frozen=True)
class Head:
    """logits = softcap * tanh(scale * W h / softcap), or without the cap where there is none.

    Args:
        weight: W (V, hidden); no supported family has a bias here.
    """

    weight: Tensor
    scale: float = 1.0
    softcap: float | None = None

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of last hidden states (..., hidden)."""
        return self.finish(hidden @ self.weight_for(hidden).t())

    def weight_for(self, hidden: Tensor) -> Tensor:
        """W in the type of `hidden`: a base in bfloat16 runs in float32 where that is faster."""
        return self.weight.to(hidden.dtype)

    def finish(self, raw: Tensor) -> Tensor:
        """Logits of W h, in float32 or better; changes `raw` itself if it is that already."""
        logits = raw.to(torch.promote_types(raw.dtype, torch.float32))
        if self.scale != 1.0:
            logits *= self.scale
        return logits if self.softcap is None else logits.div_(self.softcap).tanh_().mul_(self.softcap)

    def unfinish_(self, slope: Tensor, logits: Tensor | None) -> None:
        """From the slope of the logits to that of W h, in place; `logits` are needed where there is a cap."""
        if self.softcap is not None:
            assert logits is not None
            slope *= 1 - (logits / self.softcap).square_()
        if self.scale != 1.0:
            slope *= self.scale


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
        linear.weight,
        scale=scale / (getattr(config, "logits_scaling", None) or 1.0),
        softcap=getattr(config, "final_logit_softcapping", None),
    )
