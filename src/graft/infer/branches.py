"""Keys and values of a forest that grows at its leaves, one token a branch and step.

n = live branches, L = room for tokens in a branch, H = query heads, K = key/value heads, G = H / K, D = head size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from graft.forest import Scores, SegmentAttention
from graft.records import Forest

ROOM = 64
"""Tokens by which the store grows when a branch is full."""


class RecordingAttention(SegmentAttention):
    """Attends over the prompts, and keeps every layer's keys and values (1, K, T, D)."""

    def __init__(self, forest: Forest) -> None:
        super().__init__(forest)
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def attend(self, layer: int, query_HTD: Tensor, key_KTD: Tensor, value_KTD: Tensor, scores: Scores) -> Tensor:
        self.kept[layer] = (key_KTD, value_KTD)
        return super().attend(layer, query_HTD, key_KTD, value_KTD, scores)


class BranchAttention:
    """One new token in each branch sees its branch: one padded call a layer.

    Args:
        recorded: the pass over the prompts.
        traces: for each branch, where in that pass's stream its tokens stand.
    """

    def __init__(self, recorded: RecordingAttention, traces: list[list[int]], device: torch.device) -> None:
        self.lengths = torch.tensor([len(trace) for trace in traces], device=device)
        room = int(self.lengths.max()) + ROOM
        places = torch.zeros(len(traces), room, dtype=torch.long)
        for row, trace in enumerate(traces):
            places[row, : len(trace)] = torch.tensor(trace)
        flat = places.flatten().to(device)
        self._store = {
            layer: (_spread(key, flat, len(traces)), _spread(value, flat, len(traces)))
            for layer, (key, value) in recorded.kept.items()
        }
        self._room = room
        self._mask = torch.empty(0)

    def advance(self) -> Tensor:
        """Make place for one more token in every branch; returns the positions that they take (n,)."""
        positions = self.lengths
        if int(positions.max()) >= self._room:
            self._store = {
                layer: (F.pad(keys, (0, 0, 0, ROOM)), F.pad(values, (0, 0, 0, ROOM)))
                for layer, (keys, values) in self._store.items()
            }
            self._room += ROOM
        self._mask = torch.arange(self._room, device=positions.device)[None] <= positions[:, None]
        self.lengths = positions + 1
        return positions

    def keep(self, rows: list[int]) -> None:
        """Forget every branch but `rows`."""
        index = torch.tensor(rows, device=self.lengths.device)
        self.lengths = self.lengths[index]
        self._store = {layer: (keys[index], values[index]) for layer, (keys, values) in self._store.items()}

    def attend(self, layer: int, query_HTD: Tensor, key_KTD: Tensor, value_KTD: Tensor, scores: Scores) -> Tensor:
        keys_nKLD, values_nKLD = self._store[layer]
        _, heads, branches, size = query_HTD.shape
        rows, places = torch.arange(branches, device=query_HTD.device), self.lengths - 1
        keys_nKLD[rows, :, places] = key_KTD[0].transpose(0, 1)
        values_nKLD[rows, :, places] = value_KTD[0].transpose(0, 1)
        # the G query heads of a key head stand where tokens would: no copy of the keys per query head
        query_nKGD = query_HTD[0].transpose(0, 1).reshape(branches, keys_nKLD.shape[1], -1, size)
        seen_nKGD = F.scaled_dot_product_attention(
            query_nKGD, keys_nKLD, values_nKLD, attn_mask=self._mask[:, None, None], scale=scores.scaling
        )
        return seen_nKGD.reshape(branches, heads, size).transpose(0, 1)[None]


def _spread(states_KTD: Tensor, places: Tensor, branches: int) -> Tensor:
    """(1, K, T, D) of the stream as (n, K, L, D) by branch."""
    _, heads, _, size = states_KTD.shape
    return states_KTD[0].index_select(1, places).view(heads, branches, -1, size).transpose(0, 1).contiguous()
