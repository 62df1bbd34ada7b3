"""The edge loss: logits exist only for edge sources, a chunk at a time; never for the whole stream.

T = tokens in the stream, E = edges, V = vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from graft.forest.head import Head
from graft.records import Edges

CHUNK = 512
"""Edges whose logits exist at a time: 64 MiB in float32 for a vocabulary of 32 000."""


def edge_losses(head: Head, hidden: Tensor, edges: Edges) -> Tensor:
    """The loss of every edge in nats, without weight (E,), float64 on the CPU, from hidden states (T, hidden)."""
    losses = [_cross_entropy(head(chunk.states), chunk.targets) for chunk in _chunks(hidden, edges)]
    return torch.cat([loss.detach().double().cpu() for loss in losses]) if losses else torch.zeros(0).double()


def backward_edge_loss(head: Head, hidden: Tensor, edges: Edges) -> float:
    """Run the backward pass of the weighted sum of the edges' losses.

    It is a sum, not a mean: gradients are divided once, by the weights of the whole optimizer step. Divided here, they
    would be too small for float16.

    Each chunk's backward runs before the next chunk's logits are made, and the model's runs once, at the end.

    Args:
        head: from hidden states to logits.
        hidden: (T, hidden), with the graph that made it.

    Returns:
        The weighted sum of the losses in nats.
    """
    leaf = hidden.detach().requires_grad_()
    total = 0.0
    for chunk in _chunks(leaf, edges):
        weighted = _cross_entropy(head(chunk.states), chunk.targets) * chunk.weights
        weighted.sum().backward()
        total += float(weighted.detach().double().sum())
    if leaf.grad is not None:
        hidden.backward(leaf.grad)
    return total


@dataclass
class _Chunk:
    """A few edges: states of their sources (e, hidden), target ids (e,), weights (e,)."""

    states: Tensor
    targets: Tensor
    weights: Tensor


def _chunks(hidden: Tensor, edges: Edges) -> Iterator[_Chunk]:
    accumulated = torch.promote_types(hidden.dtype, torch.float32)
    for start in range(0, len(edges), CHUNK):
        part = slice(start, start + CHUNK)
        yield _Chunk(
            states=hidden.index_select(0, edges.sources[part].to(hidden.device)),
            targets=edges.targets[part].to(hidden.device),
            weights=edges.weights[part].to(hidden.device, accumulated),
        )


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.to(torch.promote_types(logits.dtype, torch.float32)), targets, reduction="none")
