"""The edge loss: logits exist only for edge sources, a chunk at a time; never for the whole stream.

Cross-entropy needs no graph: its gradient is known as soon as its value is, so both are made in one visit of the
logits, in place, a few rows at a time that stay in a CPU's cache.

T = tokens in the stream, E = edges, N = sources (several edges may leave one), V = vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from graft.forest.head import Head, HeadPart
from graft.records import Edges

LOGITS = {"cpu": 2**23, "cuda": 2**26}
"""Logits that exist at a time: 32 MiB of float32, and on CUDA 256 MiB, for products large enough to fill it."""

CACHED = 2**19
"""Logits that are visited at a time on a CPU: 2 MiB of float32 stay in its cache from the first look to the last."""


def edge_losses(head: Head | Sequence[HeadPart], hidden: Tensor, edges: Edges) -> Tensor:
    """The loss of every edge in nats, without weight (E,), float64 on the CPU, from hidden states (T, hidden)."""
    losses = torch.zeros(len(edges), dtype=torch.float64)
    for part, mine in _by_head(head, edges, len(hidden)):
        weight = part.weight_for(hidden)
        for chunk in _chunks(hidden, edges, mine, len(weight)):
            states = hidden.index_select(0, chunk.sources)
            logits = states @ weight.t()
            if part.graft is not None:
                logits = part.graft(states, logits)
            losses[chunk.edges] = _visit(part, logits, chunk, grad=False)
    return losses


def backward_edge_loss(head: Head | Sequence[HeadPart], hidden: Tensor, edges: Edges) -> float:
    """Run the backward pass of the weighted sum of the edges' losses.

    It is a sum, not a mean: gradients are divided once, by the weights of the whole optimizer step. Divided here, they
    would be too small for float16.

    Args:
        head: from hidden states to logits, one for all or one for each part of the stream.
        hidden: (T, hidden), with the graph that made it.

    Returns:
        The weighted sum of the losses in nats.
    """
    losses = torch.zeros(len(edges), dtype=torch.float64)
    grad = torch.zeros_like(hidden)
    for part, mine in _by_head(head, edges, len(hidden)):
        for chunk in _chunks(hidden, edges, mine, len(part.weight)):
            states = hidden.detach().index_select(0, chunk.sources)
            step = _train_head if part.trains else _pass_head
            losses[chunk.edges], slope = step(part, states, chunk)
            grad.index_copy_(0, chunk.sources, slope.to(grad.dtype))
    if hidden.requires_grad and len(edges):
        hidden.backward(grad)
    return float((losses * edges.weights).sum())


@torch.no_grad()
def _pass_head(head: Head, states: Tensor, chunk: "_Chunk") -> tuple[Tensor, Tensor]:
    """Losses (E,) of a chunk, and the gradient of its sources' states (N, hidden)."""
    weight = head.weight_for(states)
    logits = states @ weight.t()
    losses = _visit(head, logits, chunk, grad=True)
    return losses, logits @ weight


@torch.enable_grad()
def _train_head(head: Head, states: Tensor, chunk: "_Chunk") -> tuple[Tensor, Tensor]:
    """The same by autograd, which gives the head's own parameters their gradients."""
    states.requires_grad_()
    logits = head(states)[chunk.rows.to(states.device)]
    losses = F.cross_entropy(logits, chunk.targets.to(states.device), reduction="none")
    (losses * chunk.weights.to(states.device, losses.dtype)).sum().backward()
    assert states.grad is not None
    return losses.detach().double().cpu(), states.grad


def _by_head(head: Head | Sequence[HeadPart], edges: Edges, tokens: int) -> Iterator[tuple[Head, Tensor]]:
    """Each head with the edges that leave its part of the stream."""
    for part in [HeadPart(head, 0, tokens)] if isinstance(head, Head) else head:
        mine = ((edges.sources >= part.start) & (edges.sources < part.stop)).nonzero()[:, 0]
        if len(mine):
            yield part.head, mine


@dataclass
class _Chunk:
    """A few sources with all of their edges.

    Args:
        sources: stream positions (N,), none twice.
        edges: which edges these are (E,).
        rows: the row among the sources that an edge leaves (E,), ascending.
        targets: (E,) ids.
        weights: (E,) float64.
    """

    sources: Tensor
    edges: Tensor
    rows: Tensor
    targets: Tensor
    weights: Tensor


def _chunks(hidden: Tensor, edges: Edges, mine: Tensor, vocabulary: int) -> Iterator[_Chunk]:
    sources, rows = edges.sources[mine].unique(return_inverse=True)
    order = rows.argsort(stable=True)
    rows = rows[order]
    size = max(1, LOGITS.get(hidden.device.type, LOGITS["cuda"]) // vocabulary)
    for first in range(0, len(sources), size):
        begin, end = torch.searchsorted(rows, torch.tensor([first, first + size])).tolist()
        part = mine[order[begin:end]]
        yield _Chunk(
            sources=sources[first : first + size].to(hidden.device),
            edges=part,
            rows=rows[begin:end] - first,
            targets=edges.targets[part],
            weights=edges.weights[part],
        )


def _visit(head: Head, logits: Tensor, chunk: _Chunk, *, grad: bool) -> Tensor:
    """The chunk's losses (E,), float64 on the CPU; with `grad`, raw `logits` (N, V) become their gradient in place."""
    step = len(logits) if logits.device.type != "cpu" else max(1, CACHED // logits.shape[1])
    losses = []
    for first in range(0, len(logits), step):
        begin, end = torch.searchsorted(chunk.rows, torch.tensor([first, first + step])).tolist()
        few = slice(begin, end)
        rows = chunk.rows[few] - first
        losses.append(_cross_entropy(head, logits[first : first + step], rows, chunk, few, grad))
    return torch.cat(losses)


def _cross_entropy(head: Head, raw: Tensor, rows: Tensor, chunk: _Chunk, few: slice, grad: bool) -> Tensor:
    """Losses of the edges `few`, which leave `rows` of the `raw` logits (n, V)."""
    at = (rows.to(raw.device), chunk.targets[few].to(raw.device))
    logits = head.finish(raw)
    highest = logits.amax(dim=-1, keepdim=True)
    capped = logits.clone() if grad and head.softcap is not None else None
    shifted = logits.sub_(highest)
    of_target = shifted[at]
    summed = shifted.exp_().sum(dim=-1)
    losses = summed.log()[at[0]] - of_target
    if grad:
        weights = chunk.weights[few].to(raw.device, logits.dtype)
        by_row = torch.zeros_like(summed).index_add_(0, at[0], weights)
        slope = logits.mul_((by_row / summed)[:, None])
        slope.index_put_(at, -weights, accumulate=True)
        head.unfinish_(slope, capped)
        if slope.data_ptr() != raw.data_ptr():
            raw.copy_(slope)
    return losses.double().cpu()
