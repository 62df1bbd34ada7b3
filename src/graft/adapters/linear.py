"""Frozen linear layers with the grafts of several slots."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from graft.adapters.contract import ModuleGraft
from graft.adapters.low_rank import LowRank, Part, frozen_linear, itself
from graft.adapters.switch import Switch
from graft.records import Route

SIBLINGS = (("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj"))
"""Names of layers below one module that read the same input, in every family that keeps them apart."""


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

    def graft_of(self, slot: int | None) -> ModuleGraft | None:
        if (key := str(slot)) not in self.grafts:
            return None
        graft = self.grafts[key]
        assert isinstance(graft, ModuleGraft)
        return graft

    def forward(self, *inputs: Tensor, made: Callable[..., Tensor] = itself) -> Tensor:
        """The output for `made(*inputs)`, of which the backward pass keeps the inputs alone."""
        return self.siblings.output_of(self, inputs, made)


def merged_module(base: nn.Module, tensors: Mapping[str, Tensor]) -> nn.Module:
    """`base` with these tensors, in its own type. A linear layer whose weight is no parameter is quantised and cannot
    hold another: a plain one takes its place, and its dequantised weight."""
    if isinstance(base, nn.Linear) and not isinstance(weight := base.weight, nn.Parameter):
        plain = nn.Linear(base.in_features, base.out_features, bias=False, device="meta")
        plain.weight, plain.bias = nn.Parameter(weight, requires_grad=False), base.bias
        base = plain
    for name, value in tensors.items():
        base.get_parameter(name).data.copy_(value)
    return base


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
    grafts = [[layer.graft_of(route.slot) for route in routes] for layer in layers]
    if routes and all(graft and graft.stands_alone for of_layer in grafts for graft in of_layer):
        outputs: list[Tensor | None] = [None for _ in layers]
    else:
        parts = [
            Part(route.start, route.stop, [_low_rank(of_layer[number]) for of_layer in grafts])
            for number, route in enumerate(routes)
        ]
        parts = [part for part in parts if any(part.added)]
        outputs = [*frozen_linear(inputs, [layer.base for layer in layers], parts, made=made)]
    return [
        _with_others(layer.base, of_layer, inputs, output, routes, made)
        for layer, of_layer, output in zip(layers, grafts, outputs, strict=True)
    ]


def _with_others(
    base: nn.Linear,
    grafts: Sequence[ModuleGraft | None],
    inputs: Sequence[Tensor],
    output: Tensor | None,
    routes: Sequence[Route],
    made: Callable[..., Tensor],
) -> Tensor:
    """The output of a layer with what those of its grafts do that are more than low-rank products."""
    if output is not None and all(graft is None or graft.in_one_step for graft in grafts):
        return output
    states, parts = made(*inputs), []
    for route, graft in zip(routes, grafts, strict=True):
        part = slice(route.start, route.stop)
        grown = None if output is None else output[..., part, :]
        if graft is not None and not graft.in_one_step:
            grown = graft(states[..., part, :], grown, base)
        assert grown is not None
        parts.append(grown)
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=-2)


def _low_rank(graft: ModuleGraft | None) -> LowRank | None:
    return graft.low_rank() if graft else None
