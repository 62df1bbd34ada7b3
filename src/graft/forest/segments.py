"""Attention of a forest, a block of queries at a time, each over the keys of its own path and no other.

Plain matrix products, so that one code serves every kind of score: grouped heads are not repeated, keys that nothing
in a block sees are left out, be it for causality or a window, and soft caps are applied as the family defines them.
The backward pass computes the probabilities anew instead of keeping them: memory grows with the stream, not with its
square.

T = tokens in the stream, H = query heads, K = key/value heads, G = H / K, D = head size, R = rows of a block times G,
P = keys on a segment's path, p = keys that a block sees.
"""

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from graft.forest.scores import Scores
from graft.records import Forest

BLOCK = 64
"""Rows at a time: the scores of 8 heads over 500 keys then take 1 MiB, and half of the masked ones are left out."""


@dataclass(frozen=True)
class _Block:
    """Rows [start, stop) of the stream, the first at `depth`, over keys [low, high) of their path."""

    start: int
    stop: int
    depth: int
    low: int
    high: int

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True)
class _Stretch:
    """The rows of a segment; `spans` [start, stop) are where the keys of its path stand, root first."""

    spans: tuple[tuple[int, int], ...]
    blocks: tuple[_Block, ...]


class SegmentAttention:
    """The back end that asks for no more than matrix products; the fastest on CPUs."""

    def __init__(self, forest: Forest) -> None:
        self._forest = forest
        self._stretches: dict[int | None, list[_Stretch]] = {}

    def attend(self, layer: int, query_HTD: Tensor, key_KTD: Tensor, value_KTD: Tensor, scores: Scores) -> Tensor:
        dtype = query_HTD.dtype
        if query_HTD.device.type == "cpu" and dtype.itemsize < 4:  # CPUs attend faster in float32, whatever they have
            query_HTD, key_KTD, value_KTD = query_HTD.float(), key_KTD.float(), value_KTD.float()
        if scores.window not in self._stretches:
            self._stretches[scores.window] = _lay_out(self._forest, scores.window)
        stretches = self._stretches[scores.window]
        seen: Tensor = _Blockwise.apply(query_HTD, key_KTD, value_KTD, stretches, scores)  # type: ignore[no-untyped-call]
        return seen.to(dtype)


class _Blockwise(torch.autograd.Function):
    """Eq. 1 of Vaswani et al. 2017 (arXiv 1706.03762), block by block."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, stretches: list[_Stretch], scores: Scores
    ) -> Tensor:
        ctx.save_for_backward(query, key, value)
        ctx.stretches, ctx.scores = stretches, scores
        seen = _like_stream(query)
        for stretch in stretches:
            keys_KPD, values_KPD = _along(key, stretch), _along(value, stretch)
            for block in stretch.blocks:
                visible = slice(block.low, block.high)
                rows_KRD = _rows(query, block, key.shape[1]) * scores.scaling
                chances_KRp = _scored(rows_KRD, keys_KPD[:, visible], block, scores).softmax(dim=-1)
                _put(seen, block, torch.bmm(chances_KRp, values_KPD[:, visible]))
        return seen

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value = ctx.saved_tensors
        scores: Scores = ctx.scores
        grad_query, grad_key, grad_value = _like_stream(query), _like_stream(key).zero_(), _like_stream(value).zero_()
        for stretch in ctx.stretches:
            keys_KPD, values_KPD = _along(key, stretch), _along(value, stretch)
            grad_keys, grad_values = torch.zeros_like(keys_KPD), torch.zeros_like(values_KPD)
            for block in stretch.blocks:
                visible = slice(block.low, block.high)
                rows_KRD = _rows(query, block, key.shape[1]) * scores.scaling
                grad_KRD = _rows(grad, block, key.shape[1])
                scored_KRp = _scored(rows_KRD, keys_KPD[:, visible], block, scores)
                chances_KRp = scored_KRp.softmax(dim=-1)
                grad_values[:, visible] += torch.bmm(chances_KRp.transpose(1, 2), grad_KRD)
                grad_KRp = torch.bmm(grad_KRD, values_KPD[:, visible].transpose(1, 2))
                grad_KRp = torch._softmax_backward_data(grad_KRp, chances_KRp, -1, chances_KRp.dtype)
                if scores.softcap is not None:
                    # times the slope of the cap; what is masked has no gradient, whatever the slope
                    grad_KRp *= 1 - (scored_KRp / scores.softcap).clamp_(-1, 1).square_()
                _put(grad_query, block, torch.bmm(grad_KRp, keys_KPD[:, visible]).mul_(scores.scaling))
                grad_keys[:, visible] += torch.bmm(grad_KRp.transpose(1, 2), rows_KRD)
            _add_along(grad_key, stretch, grad_keys)
            _add_along(grad_value, stretch, grad_values)
        return grad_query, grad_key, grad_value, None, None


def _lay_out(forest: Forest, window: int | None) -> list[_Stretch]:
    spans = [(segment.start, segment.stop) for segment in forest.segments]
    stretches = []
    for index, segment in enumerate(forest.segments):
        count = math.ceil(len(segment) / BLOCK)
        cuts = [segment.start + len(segment) * i // count for i in range(count + 1)]
        blocks = []
        for start, stop in itertools.pairwise(cuts):
            depth = segment.depth + start - segment.start
            low = 0 if window is None else max(0, depth - window + 1)
            blocks.append(_Block(start, stop, depth, low, depth + stop - start))
        stretches.append(_Stretch(tuple(spans[i] for i in forest.path(index)), tuple(blocks)))
    return stretches


def _scored(rows_KRD: Tensor, keys_KpD: Tensor, block: _Block, scores: Scores) -> Tensor:
    """Scores (K, R, p) with -inf where a row does not see a key."""
    scored = torch.bmm(rows_KRD, keys_KpD.transpose(1, 2))
    if scores.softcap is not None:
        scored.div_(scores.softcap).tanh_().mul_(scores.softcap)
    rows, keys = len(block), block.high - block.low
    by_row = scored.view(len(scored), -1, rows, keys)
    square = torch.full((rows, rows), -math.inf, dtype=scored.dtype, device=scored.device)
    by_row[..., -rows:] += square.triu(1)  # the block's own keys stand last, in the order of its rows
    if scores.window is not None and block.high - block.low > scores.window:
        # row r sees keys from depth + r - window + 1 on, so those that it misses stand in a triangle at the left
        missed = block.depth - scores.window - block.low
        columns = min(keys, rows)
        by_row[..., :columns] += square[:, :columns].tril(missed)
    return scored


def _like_stream(states: Tensor) -> Tensor:
    """Room for (1, heads, T, D) in the memory layout (T, heads, D), in which models go on without a copy."""
    _, heads, tokens, size = states.shape
    return states.new_empty(1, tokens, heads, size).transpose(1, 2)


def _along(states: Tensor, stretch: _Stretch) -> Tensor:
    """What stands on a path (K, P, D), of a stream (1, K, T, D)."""
    parts = [states[0, :, start:stop] for start, stop in stretch.spans]
    return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)


def _add_along(stream: Tensor, stretch: _Stretch, grad_KPD: Tensor) -> None:
    above = 0
    for start, stop in stretch.spans:
        stream[0, :, start:stop] += grad_KPD[:, above : above + stop - start]
        above += stop - start


def _rows(stream: Tensor, block: _Block, key_heads: int) -> Tensor:
    """A block's rows (K, R, D) of a stream (1, H, T, D): the G query heads of a key head stand below one another."""
    return stream[0, :, block.start : block.stop].reshape(key_heads, -1, stream.shape[-1])


def _put(stream: Tensor, block: _Block, rows_KRD: Tensor) -> None:
    stream[0, :, block.start : block.stop] = rows_KRD.view(stream.shape[1], len(block), -1)
