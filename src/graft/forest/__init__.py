"""Layer 1: pack sequences into a forest, attend over it, and sum the loss over its edges."""

from graft.forest.attention import attach, forest_hidden_states, hidden_states
from graft.forest.back_ends import BACK_ENDS, attention_over
from graft.forest.head import Head, HeadPart, head_of, heads_of
from graft.forest.loss import backward_edge_loss, edge_losses
from graft.forest.plant import plant, plant_batch, planted_tokens
from graft.forest.scores import ForestAttention, Scores

__all__ = [
    "BACK_ENDS",
    "ForestAttention",
    "Head",
    "HeadPart",
    "Scores",
    "attach",
    "attention_over",
    "backward_edge_loss",
    "edge_losses",
    "forest_hidden_states",
    "head_of",
    "heads_of",
    "hidden_states",
    "plant",
    "plant_batch",
    "planted_tokens",
]
