"""The output head as its family defines it: what lies between the last hidden states and the logits.

V = vocabulary.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel

from graft.records import Route


@dataclass(frozen=True)
class Head:
    """logits = softcap * tanh(scale * W h / softcap), or without the cap where there is none.

    Args:
        weight: W (V, hidden); no supported family has a bias here.
        graft: what an adapter makes of h (n, hidden) and W h (n, V), before scale and cap.
    """

    weight: Tensor
    scale: float = 1.0
    softcap: float | None = None
    graft: Callable[[Tensor, Tensor], Tensor] | None = None

    @property
    def trains(self) -> bool:
        return self.weight.requires_grad or self.graft is not None

    def __call__(self, hidden: Tensor) -> Tensor:
        """Logits (..., V) of last hidden states (..., hidden)."""
        raw = hidden @ self.weight_for(hidden).t()
        return self.finish(raw if self.graft is None else self.graft(hidden, raw))

    def weight_for(self, hidden: Tensor) -> Tensor:
        """W in the type of `hidden`: a base in bfloat16 runs in float32 where that is faster."""
        return self.weight.to(hidden.dtype)

    def finish(self, raw: Tensor) -> Tensor:
        """Logits of W h, in float32 or better; changes `raw` itself if it is that already."""
        logits = raw.to(torch.promote_types(raw.dtype, torch.float32))
        if logits.requires_grad:  # an adapter trains the head: nothing in place
            logits = logits * self.scale
            return logits if self.softcap is None else (logits / self.softcap).tanh() * self.softcap
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


@dataclass(frozen=True)
class HeadPart:
    """The head of the tokens [start, stop) of a stream."""

    head: Head
    start: int
    stop: int


def head_of(model: PreTrainedModel, slot: int | None = None) -> Head:
    """The head of a model of a supported family, as the adapter in `slot` has it.

    Granite divides its logits by `logits_scaling`, Cohere multiplies them by `logit_scale`, Gemma 2 caps them at
    `final_logit_softcapping`; other families do none of it.
    """
    linear = model.get_output_embeddings()
    config = model.config
    scale = getattr(config, "logit_scale", None) or 1.0
    head = Head(
        linear.weight,
        scale=scale / (getattr(config, "logits_scaling", None) or 1.0),
        softcap=getattr(config, "final_logit_softcapping", None),
    )
    grafted: Any = getattr(linear, "graft_of", None)  # where an adapter has changed the head
    graft = grafted(slot) if grafted else None
    if graft is None:
        return head
    if graft.stands_alone:
        return replace(head, weight=graft.own_weight())
    return replace(head, graft=lambda hidden, raw: graft(hidden, raw, linear.base))


def heads_of(model: PreTrainedModel, routes: Sequence[Route]) -> list[HeadPart]:
    """The heads of a stream's parts."""
    if not hasattr(model.get_output_embeddings(), "graft_of"):
        return [HeadPart(head_of(model), routes[0].start, routes[-1].stop)]
    return [HeadPart(head_of(model, route.slot), route.start, route.stop) for route in routes]
