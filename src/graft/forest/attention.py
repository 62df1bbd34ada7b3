"""Attention over a forest, registered with `transformers` under our own name.

`attach` makes a model of any supported family call `ForestAttention.attend` in every layer, with no modelling code of
ours. The layout travels as the keyword argument `forest` through the model's forward.

T = tokens in the stream.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from graft.forest.scores import ForestAttention, Scores
from graft.forest.segments import SegmentAttention
from graft.records import Forest
from graft.runtime import stream_dtype

ATTENTION = "graft_forest"


def attach(model: PreTrainedModel) -> None:
    """Make `model` attend over forests, and over nothing else, from now on."""
    model.set_attn_implementation(ATTENTION)


def hidden_states(model: PreTrainedModel, ids: Tensor, positions: Tensor, attention: ForestAttention) -> Tensor:
    """Last hidden states (T, hidden) of the stream `ids` (T,) with position ids `positions` (T,).

    They are of `stream_dtype`; where that is wider than the weights, linear layers widen them, as those of a Bank do.
    """
    device = model.device
    embedded = model.get_input_embeddings()(ids.to(device)[None])
    output = model.base_model(
        inputs_embeds=embedded.to(stream_dtype(device, embedded.dtype)),
        position_ids=positions.to(device)[None],
        use_cache=False,
        forest=attention,
    )
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


def forest_hidden_states(model: PreTrainedModel, forest: Forest) -> Tensor:
    """Last hidden states (T, hidden) of a forest."""
    return hidden_states(model, forest.ids, forest.positions, SegmentAttention(forest))


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float,
    forest: ForestAttention,
    sliding_window: int | None = None,
    softcap: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    layer = module.layer_idx
    assert isinstance(layer, int)
    return forest.attend(layer, query, key, value, Scores(scaling, sliding_window, softcap)).transpose(1, 2), None


def _no_mask(*_: Any, **__: Any) -> None:
    """`transformers` would read a jump in position ids as a new packed sequence and cut the prefix off."""


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, _no_mask)
