"""Norms, embeddings, output heads and attention with the grafts of several slots."""

from typing import Any

import torch
from torch import Tensor, nn

from graft.adapters.contract import AttentionGraft, ModuleGraft
from graft.adapters.switch import Switch


class GraftedModule(nn.Module):
    """A frozen norm, or an output head, which is asked for the graft of a slot.

    Args:
        stream_dim: where the tokens of the stream stand in what the module reads and gives.
    """

    def __init__(self, base: nn.Module, switch: Switch, *, stream_dim: int = 1) -> None:
        super().__init__()
        self.base = base
        self.grafts = nn.ModuleDict()
        self._switch = switch
        self._stream_dim = stream_dim

    @property
    def weight(self) -> Any:
        """The base's: models look at it for a dtype or a device."""
        return self.base.weight

    def graft_of(self, slot: int | None) -> ModuleGraft | None:
        graft = self.grafts[key] if (key := str(slot)) in self.grafts else None
        assert graft is None or isinstance(graft, ModuleGraft)
        return graft

    def forward(self, states: Tensor) -> Tensor:
        """States through the base, each part of the stream with the graft of its slot."""
        return self._grafted(states, self.base(states))

    def _grafted(self, states: Tensor, output: Tensor) -> Tensor:
        grafts = [self.graft_of(route.slot) for route in self._switch.routes]
        if not any(grafts):
            return output
        parts = []
        for route, graft in zip(self._switch.routes, grafts, strict=True):
            part = (self._stream_dim, route.start, route.stop - route.start)
            own = output.narrow(*part)
            parts.append(graft(states.narrow(*part), own, self.base) if graft else own)
        return torch.cat(parts, dim=self._stream_dim)


class GraftedEmbedding(GraftedModule):
    """Embeddings that know virtual tokens, whose ids are negative."""

    def forward(self, ids: Tensor) -> Tensor:
        """Embeddings (1, T, hidden) of ids (1, T). Those of virtual tokens that no graft gives mean nothing."""
        self._switch.meet(ids)
        return self._grafted(ids, self.base(ids.clamp(min=0)))


class GraftedAttention(nn.Module):
    """What stands between a layer's projections and the back end that attends.

    Args:
        number: of the layer, from 0.
    """

    def __init__(self, attention: nn.Module, number: int, switch: Switch) -> None:
        super().__init__()
        self.grafts = nn.ModuleDict()
        self._attention = [attention]  # not as a module of its own: it holds this one
        self._number = number
        self._switch = switch

    def graft_of(self, slot: int | None) -> AttentionGraft | None:
        graft = self.grafts[key] if (key := str(slot)) in self.grafts else None
        assert graft is None or isinstance(graft, AttentionGraft)
        return graft

    def keys_values(self, key_KTD: Tensor, value_KTD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (1, K, T, D) with those of prefixes in the places of their virtual tokens."""
        virtual = self._switch.virtual
        for route in self._switch.routes if virtual else []:
            graft = self.graft_of(route.slot)
            prefix = graft.prefix(self._number) if graft else None
            if prefix is None or virtual is None:
                continue
            mine = (virtual.places >= route.start) & (virtual.places < route.stop)
            places, numbers = virtual.places[mine], virtual.numbers[mine]
            key_KTD, value_KTD = (
                stream.index_copy(2, places, of_prefix[None, :, numbers].to(stream.dtype))
                for stream, of_prefix in zip((key_KTD, value_KTD), prefix, strict=True)
            )
        return key_KTD, value_KTD

    def added(self, query_HTD: Tensor, seen_HTD: Tensor, scaling: float) -> Tensor:
        """What queries saw (1, H, T, D), with what the grafts of their slots add."""
        grafts = [self.graft_of(route.slot) for route in self._switch.routes]
        if not any(grafts):
            return seen_HTD
        parts = []
        for route, graft in zip(self._switch.routes, grafts, strict=True):
            seen, part = seen_HTD[:, :, route.start : route.stop], query_HTD[:, :, route.start : route.stop]
            more = graft.added(self._attention[0], part, scaling) if graft else None
            parts.append(seen if more is None else seen + more.to(seen.dtype))
        return torch.cat(parts, dim=2)
