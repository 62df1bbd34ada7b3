"""Layer 1: pack sequences into a forest, attend over it, and sum the loss over its edges."""

from graft.forest.attention import ForestAttention, SegmentAttention, attach, forest_hidden_states, hidden_states
from graft.forest.loss import backward_edge_loss, edge_losses
from graft.forest.plant import plant, plant_batch

__all__ = [
    "ForestAttention",
    "SegmentAttention",
    "attach",
    "backward_edge_loss",
    "edge_losses",
    "forest_hidden_states",
    "hidden_states",
    "plant",
    "plant_batch",
]
