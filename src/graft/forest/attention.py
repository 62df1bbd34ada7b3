"""Attention over a forest, registered with `transformers` under our own name.

`attach` makes a model of any supported family call `ForestAttention.attend` in every layer, with no modelling code of
ours. The layout travels as the keyword argument `forest` through the model's forward.

T = tokens in the stream.
"""

from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel

from graft.errors import ModelError
from graft.forest.back_ends import attention_over
from graft.forest.scores import ForestAttention, Grafted, Scores
from graft.records import Forest
from graft.runtime import stream_dtype

ATTENTION = "graft_forest"

# Keywords of a family's call that say nothing about the answer: positions are in the queries and keys by then, and a
# forest keeps no cache of `transformers`'.
_INERT = {"position_ids", "use_cache", "cache_position", "output_attentions"}


def attach(model: PreTrainedModel) -> None:
    """Make `model` attend over forests, and over nothing else, from now on."""
    model.set_attn_implementation(ATTENTION)


def hidden_states(model: PreTrainedModel, ids: Tensor, positions: Tensor, attention: ForestAttention) -> Tensor:
    """Last hidden states (T, hidden) of the stream `ids` (T,) with position ids `positions` (T,).

    They are of `stream_dtype`; where that is wider than the weights, linear layers widen them, as those of a Bank do.
    """
    device = model.device
    embedded: Tensor = model.get_input_embeddings()(ids.to(device)[None])
    output = model.base_model(
        inputs_embeds=embedded.to(_dtype_of_stream(model, embedded.dtype)),
        position_ids=positions.to(device)[None],
        use_cache=False,
        forest=attention,
    )
    hidden: Tensor = output.last_hidden_state[0]
    return hidden


def _dtype_of_stream(model: PreTrainedModel, stored: torch.dtype) -> torch.dtype:
    """PyTorch's own LayerNorm takes no stream that is wider than its weights; RMSNorms, which families bring, do."""
    narrow = any(isinstance(module, torch.nn.LayerNorm) for module in model.modules())
    return stored if narrow else stream_dtype(model.device, stored)


def forest_hidden_states(model: PreTrainedModel, forest: Forest) -> Tensor:
    """Last hidden states (T, hidden) of a forest."""
    return hidden_states(model, forest.ids, forest.positions, attention_over(model, forest))


def _attend(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    masked_window: int | None,
    *,
    scaling: float,
    forest: ForestAttention,
    sliding_window: int | None = None,
    softcap: float | None = None,
    dropout: float = 0.0,
    **others: Any,
) -> tuple[Tensor, None]:
    asked = [name for name, said in others.items() if name not in _INERT and said is not None]
    asked += ["dropout"] if dropout else []
    asked += [] if getattr(module, "is_causal", True) else ["is_causal=False"]
    asked += [] if masked_window == sliding_window else [f"a mask of window {masked_window}, not {sliding_window}"]
    if asked:
        raise ModelError(
            f"{type(module).__name__} asks its attention for what a forest does not do: {', '.join(asked)}",
            fix="use a model of a supported family, with causal attention",
        )
    layer = module.layer_idx
    assert isinstance(layer, int)
    grafted: Grafted | None = getattr(module, "grafted", None)
    if grafted is not None:
        key, value = grafted.keys_values(key, value)
    seen = forest.attend(layer, query, key, value, Scores(scaling, sliding_window, softcap))
    if grafted is not None:
        seen = grafted.added(query, seen, scaling)
    return seen.transpose(1, 2), None


def _window_of_mask(*_: Any, local_size: int | None = None, **__: Any) -> int | None:
    """In the place of a mask, its window, which a family's layers may contradict; the rest of it is the forest's.

    `transformers` would read a jump in position ids as a new packed sequence and cut the prefix off.
    """
    return local_size


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, _window_of_mask)
