"""Frozen linear layers that read one input, with low-rank products added, as one step of autograd.

The cheap bracketing throughout: x A^T first, then times B^T, added in place; B A is never formed. The stacked A of all
layers reads the input once, and so does the gradient of it. The base's weights get no gradient, and autograd keeps the
input once for all layers instead of once for each, or only what the input is made of.

T = tokens of the stream, n = tokens of a part of it, R = ranks of all layers together, in and out = features.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class LowRank:
    """scaling * B A with A (r, in) and B (out, r), which add to a layer's weight (Hu et al. 2021, arXiv 2106.09685)."""

    lora_A: Tensor
    lora_B: Tensor
    scaling: float


@dataclass(frozen=True)
class Part:
    """Tokens [start, stop) of the stream, and what each layer adds for them; None for a layer that adds nothing."""

    start: int
    stop: int
    added: Sequence[LowRank | None]


def itself(states: Tensor) -> Tensor:
    return states


def frozen_linear(
    inputs: Sequence[Tensor],
    bases: Sequence[nn.Linear],
    parts: Sequence[Part] = (),
    *,
    made: Callable[..., Tensor] = itself,
) -> list[Tensor]:
    """What `bases` make of the states (..., T, in) that `made` gives of `inputs`: (..., T, out) each, `parts` added.

    The backward pass keeps `inputs` and makes the states anew: `made` is to be cheap and work element by element.
    The stream's type may be wider than the weights': they are then widened for as long as a product takes.
    """
    factors = [factor for part in parts for low in part.added if low for factor in (low.lora_A, low.lora_B)]
    if not parts and not (torch.is_grad_enabled() and any(states.requires_grad for states in inputs)):
        states = made(*inputs)
        return [_linear(states, base) for base in bases]
    *batch, tokens, _ = inputs[0].shape
    flat = [states.reshape(-1, states.shape[-1]) for states in inputs]
    if len(flat[0]) != tokens:  # a batch of streams, all of them alike
        assert all(part.stop - part.start == tokens for part in parts), "parts are of a single stream"
        parts = [Part(0, len(flat[0]), part.added) for part in parts]
    outputs: tuple[Tensor, ...] = _FrozenLinear.apply(made, len(flat), bases, parts, *flat, *factors)  # type: ignore[no-untyped-call]
    return [output.view(*batch, tokens, output.shape[-1]) for output in outputs]


class _FrozenLinear(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        made: Callable[..., Tensor],
        count: int,
        bases: Sequence[nn.Linear],
        parts: Sequence[Part],
        *inputs_and_factors: Tensor,
    ) -> tuple[Tensor, ...]:
        inputs, factors = inputs_and_factors[:count], inputs_and_factors[count:]
        states = made(*inputs)
        outputs = [_linear(states, base) for base in bases]
        narrowed = []
        for part in parts:
            tokens, added = slice(part.start, part.stop), [low for low in part.added if low]
            narrowed.append(states[tokens] @ _stacked_A(added, states.dtype).t())
            columns = iter(narrowed[-1].split([len(low.lora_A) for low in added], dim=1))
            for output, low in zip(outputs, part.added, strict=True):
                if low is not None:
                    output[tokens].addmm_(next(columns), low.lora_B.to(states.dtype).t(), alpha=low.scaling)
        ctx.save_for_backward(*inputs, *narrowed, *factors)
        ctx.made, ctx.count, ctx.bases, ctx.parts = made, count, bases, parts
        return tuple(outputs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        wanted = ctx.needs_input_grad[4 : 4 + ctx.count]
        saved = iter(ctx.saved_tensors)  # asked for once: recomputed activations come but once
        inputs = [next(saved).detach().requires_grad_(wants) for wants in wanted]
        with torch.enable_grad():
            made = ctx.made(*inputs)
        states = made.detach()
        grad_states = None
        if any(wanted):
            grad_states = grads[0] @ ctx.bases[0].weight.to(grads[0].dtype)
            for grad, base in zip(grads[1:], ctx.bases[1:], strict=True):  # one widened weight at a time
                grad_states.addmm_(grad, base.weight.to(grad.dtype))
        grad_factors: list[Tensor] = []
        for part in ctx.parts:
            narrowed = next(saved)
            tokens, added = slice(part.start, part.stop), [low for low in part.added if low]
            ranks = [len(low.lora_A) for low in added]
            own = [grad[tokens] for grad, low in zip(grads, part.added, strict=True) if low is not None]
            grad_narrowed = torch.cat(
                [grad @ (low.lora_B * low.scaling).to(grad.dtype) for grad, low in zip(own, added, strict=True)], dim=1
            )
            grads_A = (grad_narrowed.t() @ states[tokens]).split(ranks)
            if grad_states is not None:
                grad_states[tokens].addmm_(grad_narrowed, _stacked_A(added, states.dtype))
            for low, grad, grad_A, narrow in zip(added, own, grads_A, narrowed.split(ranks, dim=1), strict=True):
                grad_factors += [grad_A.to(low.lora_A.dtype), (grad.t() @ narrow * low.scaling).to(low.lora_B.dtype)]
        return None, None, None, None, *_through(made, inputs, grad_states), *grad_factors


def _through(made: Tensor, inputs: Sequence[Tensor], grad: Tensor | None) -> list[Tensor | None]:
    """The gradients of the inputs from that of what was made of them."""
    if made is inputs[0]:
        return [grad]
    if grad is not None:
        made.backward(grad)
    return [states.grad for states in inputs]


def _linear(states: Tensor, base: nn.Linear) -> Tensor:
    bias = None if base.bias is None else base.bias.to(states.dtype)
    return F.linear(states, base.weight.to(states.dtype), bias)


def _stacked_A(added: Sequence[LowRank], dtype: torch.dtype) -> Tensor:
    """The A of all layers below one another (R, in)."""
    return torch.cat([low.lora_A for low in added]).to(dtype)
