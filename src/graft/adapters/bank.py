"""The adapters on one base model, each in a slot, and the switch that says which part of a stream each one runs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel

from graft.adapters.contract import Adapter
from graft.adapters.linear import SIBLINGS, GraftedLinear, Siblings, Switch
from graft.adapters.targets import linear_layers
from graft.records import Route


class Bank:
    """Holds a model with its adapters. The model's own forward is the base's, bit for bit, unless a route is set."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.adapters: dict[int, Adapter] = {}
        self._switch = Switch()
        model.requires_grad_(False)
        for name, layer in linear_layers(model).items():
            self._put(name, GraftedLinear(layer, self._switch))
        for module in list(model.modules()):
            self._bring_together(module)

    def add(self, adapter: Adapter) -> int:
        """Graft `adapter` onto the model; returns its slot."""
        slot = max(self.adapters, default=-1) + 1
        for name, graft in adapter.grafts.items():
            layer = self.model.get_submodule(name)
            assert isinstance(layer, GraftedLinear)
            layer.grafts[str(slot)] = graft.to(layer.weight.device)
        self.adapters[slot] = adapter
        adapter.train(False)
        return slot

    @contextmanager
    def routed(self, routes: Sequence[Route]) -> Iterator[None]:
        """Within this block the stream runs through the adapters of `routes`, which cover it without gaps."""
        before, self._switch.routes = self._switch.routes, list(routes)
        try:
            yield
        finally:
            self._switch.routes = before

    def merge(self, slot: int) -> PreTrainedModel:
        """Fold the adapter of `slot` into the base's weights and take every graft off; the bank is empty after it.

        The sum is made in float32 and stored in the base's dtype.
        """
        adapter = self.adapters[slot]
        for name in list(linear_layers(self.model)):
            layer = self.model.get_submodule(name)
            if not isinstance(layer, GraftedLinear):
                continue
            if (graft := adapter.grafts.get(name)) is not None:
                weight, bias = graft.merged(layer.base.weight, layer.base.bias)
                with torch.no_grad():
                    layer.base.weight.copy_(weight)
                    if bias is not None:
                        layer.base.bias.copy_(bias)
            self._put(name, layer.base)
        self.adapters.clear()
        return self.model

    def _bring_together(self, parent: nn.Module) -> None:
        for names in SIBLINGS:
            layers = [layer for name in names if isinstance(layer := getattr(parent, name, None), GraftedLinear)]
            together = Siblings(layers, self._switch)
            for layer in layers:
                layer.siblings = together

    def _put(self, name: str, module: nn.Module) -> None:
        parent, _, leaf = name.rpartition(".")
        setattr(self.model.get_submodule(parent), leaf, module)
