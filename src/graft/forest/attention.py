"""Attention over a forest, registered with `transformers` under our own name.

`attach` makes a model of any supported family call `ForestAttention.attend` in every layer, with no modelling code of
ours. The layout travels as the keyword argument `forest` through the model's forward.

T = tokens in the stream, H = query heads, K = key/value heads, D = head size.
"""

from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from graft.records import Forest

ATTENTION = "graft_forest"


class ForestAttention(Protocol):
    """Who may see whom in one stream."""

    def attend(self, layer: int, query_HTD: Tensor, key_KTD: Tensor, value_KTD: Tensor, scaling: float) -> Tensor:
        """What the stream's tokens take from those that they may see, (1, H, T, D); all tensors with a batch of 1."""
        ...


class SegmentAttention:
    """One call per segment over the keys of its ancestors and its own: no mask over the whole stream, no waste.

    Args:
        forest: the layout of the stream.
        device: where the model is.
        dtype: of queries, keys and values; the masks are made in it once, for all layers.
    """

    def __init__(self, forest: Forest, device: torch.device, dtype: torch.dtype) -> None:
        self._paths = [forest.path(index) for index in range(len(forest.segments))]
        self._lengths = [len(segment) for segment in forest.segments]
        self._masks = [
            None if segment.parent is None else _causal_below(segment.depth, len(segment), device, dtype)
            for segment in forest.segments
        ]

    def attend(self, layer: int, query_HTD: Tensor, key_KTD: Tensor, value_KTD: Tensor, scaling: float) -> Tensor:
        groups = query_HTD.shape[1] // key_KTD.shape[1]
        # split once: its backward is one concatenation, while that of a slice would fill the whole stream with zeros
        queries = query_HTD.split(self._lengths, dim=2)
        keys = _repeat_heads(key_KTD, groups).split(self._lengths, dim=2)
        values = _repeat_heads(value_KTD, groups).split(self._lengths, dim=2)
        seen = [
            F.scaled_dot_product_attention(
                query,
                torch.cat([keys[i] for i in path], dim=2) if len(path) > 1 else keys[path[0]],
                torch.cat([values[i] for i in path], dim=2) if len(path) > 1 else values[path[0]],
                attn_mask=mask,
                is_causal=mask is None,
                scale=scaling,
            )
            for query, path, mask in zip(queries, self._paths, self._masks, strict=True)
        ]
        return torch.cat(seen, dim=2)


def attach(model: PreTrainedModel) -> None:
    """Make `model` attend over forests, and over nothing else, from now on."""
    model.set_attn_implementation(ATTENTION)


def hidden_states(model: PreTrainedModel, ids: Tensor, positions: Tensor, attention: ForestAttention) -> Tensor:
    """Last hidden states (T, hidden) of the stream `ids` (T,) with position ids `positions` (T,)."""
    device = model.device
    output = model.base_model(
        input_ids=ids.to(device)[None], position_ids=positions.to(device)[None], use_cache=False, forest=attention
    )
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


def forest_hidden_states(model: PreTrainedModel, forest: Forest) -> Tensor:
    """Last hidden states (T, hidden) of a forest."""
    attention = SegmentAttention(forest, model.device, model.dtype)
    return hidden_states(model, forest.ids, forest.positions, attention)


def _causal_below(above: int, length: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """What is added to the scores (length, above + length): every ancestor is seen, and the own tokens causally."""
    hidden = torch.ones(length, above + length, dtype=torch.bool, device=device).triu(above + 1)
    return torch.zeros(length, above + length, dtype=dtype, device=device).masked_fill_(hidden, float("-inf"))


def _repeat_heads(states_KTD: Tensor, groups: int) -> Tensor:
    return states_KTD if groups == 1 else states_KTD.repeat_interleave(groups, dim=1)


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    forest: ForestAttention,
    **_: Any,
) -> tuple[Tensor, None]:
    layer = module.layer_idx
    assert isinstance(layer, int)
    return forest.attend(layer, query, key, value, scaling).transpose(1, 2), None


def _no_mask(*_: Any, **__: Any) -> None:
    """`transformers` would read a jump in position ids as a new packed sequence and cut the prefix off."""


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, _no_mask)
