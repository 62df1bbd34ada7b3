"""The adapters on one base model, each in a slot, and the switch that says which part of a stream each one runs."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.adapters.contract import WHOLE_MODEL, Adapter, AttentionGraft, Graft
from graft.adapters.gated import keep_gate_and_up
from graft.adapters.grafted import GraftedAttention, GraftedEmbedding, GraftedModule
from graft.adapters.linear import SIBLINGS, GraftedLinear, Siblings, merged_module
from graft.adapters.switch import Switch
from graft.adapters.targets import attention_layers, embeddings_name, linear_layers, stream_dim, weighted_modules
from graft.errors import AdapterError
from graft.records import Route, TokenSequence


class Bank:
    """Holds a model with its adapters. The model's own forward is the base's, bit for bit, unless a route is set."""

    def __init__(self, model: PreTrainedModel) -> None:
        self.model = model
        self.adapters: dict[int, Adapter] = {}
        self._switch = Switch()
        model.requires_grad_(False)
        for name, layer in linear_layers(model).items():
            self._put(name, GraftedLinear(layer, self._switch))
        self._gated = [module for module in model.modules() if keep_gate_and_up(module)]
        self._siblings = [together for module in list(model.modules()) for together in self._bring_together(module)]

    def add(self, adapter: Adapter) -> int:
        """Graft `adapter` onto the model; returns its slot."""
        slot = max(self.adapters, default=-1) + 1
        for place, graft in adapter.grafts.items():
            graft.to(self.model.device)
            for holder in self._holders(place, graft):
                assert str(slot) not in holder.grafts, "methods that collide are not joined"
                holder.grafts[str(slot)] = graft
        if adapter.virtual_tokens:
            self._holder(embeddings_name(self.model))
        self.adapters[slot] = adapter
        adapter.train(False)
        return slot

    def prompted(self, sample: TokenSequence) -> TokenSequence:
        """`sample` behind the virtual tokens of its slot, where that has any."""
        count = 0 if sample.adapter_slot is None else self.adapters[sample.adapter_slot].virtual_tokens
        if not count:
            return sample
        ids = tuple(range(-1, -1 - count, -1))
        shares = sample.shares and (0.0,) * count + sample.shares
        return replace(sample, ids=ids + sample.ids, trained=(False,) * count + sample.trained, shares=shares)

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
            self._switch.virtual = None
            for siblings in self._siblings:
                siblings.forget()

    def merge(self, slot: int) -> PreTrainedModel:
        """Fold the adapter of `slot` into the base's weights and take every graft off; the bank is empty after it.

        The sum is made in float32 and stored in the base's dtype. Quantised layers become plain ones.

        Raises:
            AdapterError: the adapter cannot be merged; nothing is changed then.
        """
        adapter = self.adapters[slot]
        merged = {
            place: graft.merged(self._base_of(holder))
            for place, graft in adapter.grafts.items()
            for holder in self._holders(place, graft)
        }
        self._refuse_half_a_tie(merged)
        for module in self._gated:
            del module.forward
        for name, module in list(self.model.named_modules()):
            if isinstance(module, GraftedLinear | GraftedModule):
                self._put(name, merged_module(module.base, merged.get(name, {})))
            elif isinstance(getattr(module, "grafted", None), GraftedAttention):
                del module.grafted
        self.adapters.clear()
        return self.model

    def _refuse_half_a_tie(self, merged: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Raise an AdapterError if one of two modules that share a weight is to get another than the other."""
        sharing: dict[int, list[str]] = {}
        for name, module in weighted_modules(self.model).items():
            sharing.setdefault(id(module._parameters.get("weight", module)), []).append(name)
        for names in sharing.values():
            first, *others = (merged.get(name, {}).get("weight") for name in names)
            if not all(_same(first, other) for other in others):
                raise AdapterError(
                    f"the adapter cannot be merged: {' and '.join(names)} are one weight in the base, and differ in it",
                    fix="train both in lora.modules_to_save, or serve base and adapter: graft chat --adapter",
                )

    def _holders(self, place: str, graft: Graft) -> list["GraftedLinear | GraftedModule | GraftedAttention"]:
        """The modules that hold the graft of a place, wrapped where they are not yet."""
        if not isinstance(graft, AttentionGraft):
            return [self._holder(embeddings_name(self.model) if place == WHOLE_MODEL else place)]
        layers = attention_layers(self.model)
        found: list[GraftedLinear | GraftedModule | GraftedAttention] = []
        for number, (name, attention) in enumerate(layers.items()):
            if place in (WHOLE_MODEL, name):
                if not hasattr(attention, "grafted"):
                    attention.grafted = GraftedAttention(attention, number, self._switch)
                found.append(cast(GraftedAttention, attention.grafted))
        return found

    def _holder(self, place: str) -> GraftedLinear | GraftedModule:
        module = self.model.get_submodule(place)
        if not isinstance(module, GraftedLinear | GraftedModule):
            kind = GraftedEmbedding if isinstance(module, nn.Embedding) else GraftedModule
            module = kind(module, self._switch, stream_dim=stream_dim(self.model, place))
            self._put(place, module)
        return module

    def _base_of(self, holder: nn.Module) -> nn.Module:
        return holder if isinstance(holder, GraftedAttention) else cast(nn.Module, holder.base)

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


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    return one is other or (one is not None and other is not None and one.equal(other))
