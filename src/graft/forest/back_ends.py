"""The attention back ends by name, and which of them a model uses where it stands."""

from collections.abc import Callable

from transformers import PreTrainedModel

from graft.forest.flex import FlexAttention, runs_flex
from graft.forest.scores import ForestAttention
from graft.forest.segments import SegmentAttention
from graft.records import Forest

BACK_ENDS: dict[str, Callable[[Forest], ForestAttention]] = {"segments": SegmentAttention, "flex": FlexAttention}


def choose(model: PreTrainedModel) -> str:
    """The name of the fastest back end that trains `model` on its device."""
    config = model.config
    head_size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return "flex" if runs_flex(model.device, head_size) else "segments"


def attention_over(model: PreTrainedModel, forest: Forest) -> ForestAttention:
    """What `model` attends over `forest` with."""
    return BACK_ENDS[choose(model)](forest)
