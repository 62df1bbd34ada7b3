"""Keys and values of a forest that grows at its leaves, one token a branch and step.

n = live branches, L = room for tokens in a branch, H = query heads, K = key/value heads, G = H / K, D = head size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from graft.forest import ForestAttention, Scores

ROOM = 64
"""Tokens by which the store grows when a branch is full."""


class RecordingAttention:
    """Attends over the prompts, and keeps every layer's keys and values (1, K, T, D)."""

    def __init__(self, attention: ForestAttention) -> None:
        self._attention = attention
        self.kept: dict[int, tuple[Tensor, Tensor]] = {}

    def attend(self, layer: int, query_HTD: Tensor, key_KTD: Tensor, value_KTD: Tensor, scores: Scores) -> Tensor:
        self.kept[layer] = (key_KTD, value_KTD)
        return self._attention.attend(layer, query_HTD, key_KTD, value_KTD, scores)


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
        self._visible: dict[int | None, Tensor] = {}

    def advance(self) -> Tensor:
        """Make place for one more token in every branch; returns the positions that they take (n,)."""
        positions = self.lengths
        if int(positions.max()) >= self._room:
            self._store = {
                layer: (F.pad(keys, (0, 0, 0, ROOM)), F.pad(values, (0, 0, 0, ROOM)))
                for layer, (keys, values) in self._store.items()
            }
            self._room += ROOM
        self._visible = {}
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
        visible = self._seen(scores.window)
        if scores.softcap is None:
            seen_nKGD = F.scaled_dot_product_attention(
                query_nKGD, keys_nKLD, values_nKLD, attn_mask=visible, scale=scores.scaling
            )
        else:
            seen_nKGD = _capped_attention(query_nKGD, keys_nKLD, values_nKLD, visible, scores.scaling, scores.softcap)
        return seen_nKGD.reshape(branches, heads, size).transpose(0, 1)[None]

    def _seen(self, window: int | None) -> Tensor:
        """What the new tokens see of their branches (n, 1, 1, L), made once a step for all layers of one window."""
        if window not in self._visible:
            above_nL = self.lengths[:, None] - 1 - torch.arange(self._room, device=self.lengths.device)
            seen_nL = above_nL >= 0 if window is None else (above_nL >= 0) & (above_nL < window)
            self._visible[window] = seen_nL[:, None, None]
        return self._visible[window]


def _capped_attention(
    query_nKGD: Tensor, keys_nKLD: Tensor, values_nKLD: Tensor, visible: Tensor, scaling: float, softcap: float
) -> Tensor:
    """With soft caps (see `Scores`), which PyTorch's own attention does not know."""
    scored_nKGL = (query_nKGD * scaling) @ keys_nKLD.transpose(2, 3)
    scored_nKGL = torch.tanh(scored_nKGL / softcap) * softcap
    precise = torch.promote_types(scored_nKGL.dtype, torch.float32)
    chances_nKGL = scored_nKGL.masked_fill(~visible, -torch.inf).softmax(dim=-1, dtype=precise)
    return chances_nKGL.to(values_nKLD.dtype) @ values_nKLD


def _spread(states_KTD: Tensor, places: Tensor, branches: int) -> Tensor:
    """(1, K, T, D) of the stream as (n, K, L, D) by branch."""
    _, heads, _, size = states_KTD.shape
    return states_KTD[0].index_select(1, places).view(heads, branches, -1, size).transpose(0, 1).contiguous()
