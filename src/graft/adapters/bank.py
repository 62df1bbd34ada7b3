"""The adapters on one base model, each in a slot, and the switch that says which part of a stream each one runs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.adapters.contract import Adapter
from graft.adapters.gated import keep_gate_and_up
from graft.adapters.linear import SIBLINGS, GraftedLinear, Siblings, Switch, plain_linear
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
        self._gated = [module for module in model.modules() if keep_gate_and_up(module, self._switch)]
        self._siblings = [together for module in list(model.modules()) for together in self._bring_together(module)]

    def add(self, adapter: Adapter) -> int:
        """Graft `adapter` onto the model; returns its slot."""
        slot = max(self.adapters, default=-1) + 1
        for name, graft in adapter.grafts.items():
            layer = self.model.get_submodule(name)
            assert isinstance(layer, GraftedLinear)
            layer.grafts[str(slot)] = graft.to(self.model.device)
        self.adapters[slot] = adapter
        adapter.train(False)
        return slot

    @contextmanager
    def routed(self, routes: Sequence[Route], *, needed: Tensor | None = None) -> Iterator[None]:
        """Within this block the stream runs through the adapters of `routes`, which cover it without gaps.

        Args:
            needed: positions in the stream (N,), ascending, whose last hidden state is asked for; the others' is
                undefined, and the last layer's MLP does not run for them.
        """
        known = {None, *self.adapters}
        assert all(route.slot in known for route in routes), "every slot holds an adapter"
        assert [route.start for route in routes] == [0, *(route.stop for route in routes)][:-1], "there is no gap"
        try:
            with self._switch.turned_to(list(routes)), nullcontext() if needed is None else self._narrowed(needed):
                yield
        finally:
            for siblings in self._siblings:
                siblings.forget()

    def merge(self, slot: int) -> PreTrainedModel:
        """Fold the adapter of `slot` into the base's weights and take every graft off; the bank is empty after it.

        The sum is made in float32 and stored in the base's dtype, in plain layers: a quantised one could not hold it.
        """
        adapter = self.adapters[slot]
        for module in self._gated:
            del module.forward
        for name in list(linear_layers(self.model)):
            layer = self.model.get_submodule(name)
            if not isinstance(layer, GraftedLinear):
                continue
            graft, own = adapter.grafts.get(name), (layer.base.weight, layer.base.bias)
            weight, bias = graft.merged(*own) if graft else own
            self._put(name, plain_linear(weight.to(self.model.dtype), bias))
        self.adapters.clear()
        return self.model

    @contextmanager
    def _narrowed(self, needed: Tensor) -> Iterator[None]:
        """The last layer's MLP runs for the `needed` rows of the stream and gives zeros for the others."""
        mlp = cast(nn.ModuleList, self.model.base_model.layers)[-1].mlp
        assert isinstance(mlp, nn.Module)
        run, own = mlp.forward, vars(mlp).get("forward")
        places = needed.to(self.model.device)
        bounds = [torch.searchsorted(needed, torch.tensor([r.start, r.stop])).tolist() for r in self._switch.routes]
        routes = [Route(r.slot, *bound) for r, bound in zip(self._switch.routes, bounds, strict=True)]

        def forward(states: Tensor) -> Tensor:
            with self._switch.turned_to(routes):
                output = run(states.index_select(1, places))
            return torch.zeros_like(states).index_copy(1, places, output)

        mlp.forward = forward
        try:
            yield
        finally:
            del mlp.forward
            if own is not None:
                mlp.forward = own

    def _bring_together(self, parent: nn.Module) -> Iterator[Siblings]:
        for names in SIBLINGS:
            layers = [layer for name in names if isinstance(layer := getattr(parent, name, None), GraftedLinear)]
            together = Siblings(layers, self._switch)
            for layer in layers:
                layer.siblings = together
            yield together

    def _put(self, name: str, module: nn.Module) -> None:
        parent, _, leaf = name.rpartition(".")
        setattr(self.model.get_submodule(parent), leaf, module)
