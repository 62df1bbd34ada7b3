"""Frozen linear layers with the grafts of several slots, and the switch that says which of them runs now."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from graft.adapters.contract import Graft
from graft.adapters.low_rank import LowRank, Part, frozen_linear, itself
from graft.records import Route

SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names of layers below one module that read the same input, in every family that keeps them apart."""


class Switch:
    """Which adapter slot runs which part of the stream now. With no route, the base alone answers."""

    def __init__(self) -> None:
        self.routes: list[Route] = []

    @contextmanager
    def turned_to(self, routes: list[Route]) -> Iterator[None]:
        before, self.routes = self.routes, routes
        try:
            yield
        finally:  # recomputed activations may stop half way, by an exception
            self.routes = before


class GraftedLinear(nn.Module):
    """A frozen linear layer with the grafts of several slots."""

    def __init__(self, base: nn.Linear, switch: Switch) -> None:
        super().__init__()
        self.base = base
        self.grafts = nn.ModuleDict()
        self.siblings = Siblings([self], switch)

    @property
    def weight(self) -> Tensor:
        """The base's: models look at it for a dtype or a device."""
        return self.base.weight

    @property
    def bias(self) -> Tensor | None:
        return self.base.bias

    def graft_of(self, slot: int | None) -> Graft | None:
        if (key := str(slot)) not in self.grafts:
            return None
        graft = self.grafts[key]
        assert isinstance(graft, Graft)
        return graft

    def forward(self, *inputs: Tensor, made: Callable[..., Tensor] = itself) -> Tensor:
        """The output for `made(*inputs)`, of which the backward pass keeps the inputs alone."""
        return self.siblings.output_of(self, inputs, made)


def plain_linear(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """A frozen linear layer as PyTorch has it, of these values, in the weight's type and on its device."""
    out_features, in_features = weight.shape
    layer = nn.Linear(in_features, out_features, bias=bias is not None, device="meta")
    layer.weight = nn.Parameter(weight, requires_grad=False)
    if bias is not None:
        layer.bias = nn.Parameter(bias.to(weight.dtype), requires_grad=False)
    return layer


class Siblings:
    """Layers that read one input: what they make of it is computed at the first one's call and given out one by one.

    A layer that is called with anything else than what its siblings were called with is computed anew, so a model
    that does otherwise than its family is slower, and not wrong.
    """

    def __init__(self, layers: Sequence[GraftedLinear], switch: Switch) -> None:
        self.layers = list(layers)
        self._switch = switch
        self._inputs: tuple[Tensor, ...] = ()
        self._routes: list[Route] = []
        self._outputs: dict[GraftedLinear, Tensor] = {}

    def output_of(self, layer: GraftedLinear, inputs: tuple[Tensor, ...], made: Callable[..., Tensor]) -> Tensor:
        routes = self._switch.routes
        if not _same(inputs, self._inputs) or routes is not self._routes or layer not in self._outputs:
            self.forget()
            self._outputs = dict(zip(self.layers, _run(self.layers, inputs, routes, made), strict=True))
            self._inputs, self._routes = inputs, routes
        output = self._outputs.pop(layer)
        if not self._outputs:
            self._inputs = ()
        return output

    def forget(self) -> None:
        """Let go of what was not asked for: a forward pass that was broken off leaves an input and its graph."""
        self._inputs, self._outputs = (), {}


def _same(inputs: tuple[Tensor, ...], others: tuple[Tensor, ...]) -> bool:
    return len(inputs) == len(others) and all(one is other for one, other in zip(inputs, others, strict=True))


def _run(
    layers: Sequence[GraftedLinear], inputs: Sequence[Tensor], routes: Sequence[Route], made: Callable[..., Tensor]
) -> list[Tensor]:
    """What `layers` make of a stream: low-rank grafts in the same step as the base, others after it."""
    assert not routes or routes[-1].stop == inputs[0].shape[-2], "routes cover the stream"
    parts = [Part(r.start, r.stop, [_low_rank(layer.graft_of(r.slot)) for layer in layers]) for r in routes]
    parts = [part for part in parts if any(part.added) and part.start < part.stop]
    outputs = frozen_linear(inputs, [layer.base for layer in layers], parts, made=made)
    return [_with_others(layer, inputs, output, routes, made) for layer, output in zip(layers, outputs, strict=True)]


def _with_others(
    layer: GraftedLinear,
    inputs: Sequence[Tensor],
    output: Tensor,
    routes: Sequence[Route],
    made: Callable[..., Tensor],
) -> Tensor:
    """The output of `layer` with what those of its grafts do that are no low-rank products."""
    others = [graft if graft and not graft.low_rank() else None for graft in (layer.graft_of(r.slot) for r in routes)]
    if not any(others):
        return output
    states, parts = made(*inputs), []
    for route, graft in zip(routes, others, strict=True):
        part = slice(route.start, route.stop)
        grown = output[..., part, :]
        parts.append(graft(states[..., part, :], grown, layer.base) if graft else grown)
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)


def _low_rank(graft: Graft | None) -> LowRank | None:
    return graft.low_rank() if graft else None
