"""Attention of a forest by PyTorch's flex attention: one kernel a layer, for GPUs.

The stream is laid out depth first (see `Forest.segments`), so a key is seen from its own place to the end of its
segment's subtree, like the entry and exit times of a walk: query q sees key k iff k <= q < exit[k]. Which squares of
that mask are empty or whole follows from the least and the greatest exit and depth in a block; nothing of the size of
the stream's square is ever made. Flex attention: Dong et al. 2024, arXiv 2412.05496.

T = tokens in the stream, N = T rounded up to whole blocks, B = blocks in N, H = query heads, K = key/value heads,
D = head size.
"""

import importlib.util
import math
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

from graft.forest.scores import Scores
from graft.records import Forest

BLOCK = 128
"""Rows and columns of a square of the mask; flex attention's own choice. Lengths that are multiples need no remainder
code, and two blocks at least keep short streams off the kernel for decoding, which asks for other head counts."""

HEAD_SIZES = range(16, 257)
"""Smaller heads are refused by the kernel, larger ones have no block sizes that are known to fit a GPU's memory."""


def runs_flex(device: torch.device, head_size: int) -> bool:
    """Whether the kernels can be compiled and trained on `device`."""
    return (
        device.type == "cuda"
        and head_size in HEAD_SIZES
        and importlib.util.find_spec("triton") is not None
        and torch.cuda.get_device_capability(device) >= (8, 0)
    )


class FlexAttention:
    """The back end for GPUs. On a CPU it runs without gradients and uncompiled, to be held against the others."""

    def __init__(self, forest: Forest) -> None:
        self._forest = forest
        self._masks: dict[int | None, BlockMask] = {}

    def attend(self, layer: int, query_HTD: Tensor, key_KTD: Tensor, value_KTD: Tensor, scores: Scores) -> Tensor:
        if scores.window not in self._masks:
            self._masks[scores.window] = block_mask(self._forest, scores.window, query_HTD.device)
        mask = self._masks[scores.window]
        tokens = query_HTD.shape[2]
        padding = (0, 0, 0, mask.shape[-1] - tokens)
        seen: Tensor = _kernel(query_HTD.device.type)(
            # padded or not, in one memory layout: another would be compiled for again
            *(F.pad(states, padding).contiguous() for states in (query_HTD, key_KTD, value_KTD)),
            score_mod=_cap(scores.softcap),
            block_mask=mask,
            scale=scores.scaling,
            enable_gqa=True,
        )
        return seen[:, :, :tokens]


def block_mask(forest: Forest, window: int | None, device: torch.device) -> BlockMask:
    """Who sees whom in `forest` (1, 1, N, N), where what fills up the last block sees itself alone."""
    tokens = len(forest)
    length = max(2, math.ceil(tokens / BLOCK)) * BLOCK
    exit_N = torch.arange(1, length + 1)
    ends = [segment.stop for segment in forest.segments]
    for index in reversed(range(len(ends))):
        segment = forest.segments[index]
        exit_N[segment.start : segment.stop] = ends[index]
        if segment.parent is not None:
            ends[segment.parent] = max(ends[segment.parent], ends[index])
    depth_N = torch.zeros(length, dtype=torch.long)
    depth_N[:tokens] = forest.positions
    missed_N = torch.full((length,), -1)  # the greatest depth that a query no longer sees
    if window is not None:
        missed_N[:tokens] = forest.positions - window
    exit_N, depth_N, missed_N = exit_N.to(device), depth_N.to(device), missed_N.to(device)

    def sees(_batch: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (key <= query) & (query < exit_N[key]) & (depth_N[key] > missed_N[query])

    first_B = torch.arange(0, length, BLOCK, device=device)
    last_B = first_B + BLOCK - 1
    exit_BN, depth_BN, missed_BN = (states.view(-1, BLOCK) for states in (exit_N, depth_N, missed_N))
    touched_BB = (first_B <= last_B[:, None]) & (first_B[:, None] < exit_BN.amax(1))
    touched_BB &= depth_BN.amax(1) > missed_BN.amin(1)[:, None]
    whole_BB = (last_B <= first_B[:, None]) & (last_B[:, None] < exit_BN.amin(1))
    whole_BB &= depth_BN.amin(1) > missed_BN.amax(1)[:, None]
    return BlockMask.from_kv_blocks(
        *_listed(touched_BB & ~whole_BB), *_listed(whole_BB), BLOCK_SIZE=BLOCK, mask_mod=sees
    )


def _listed(chosen_BB: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks are chosen in each row (1, 1, B), and which, before those that are not (1, 1, B, B)."""
    order = chosen_BB.int().argsort(dim=1, descending=True, stable=True)
    return chosen_BB.sum(1, dtype=torch.int32)[None, None], order.int()[None, None].contiguous()


@cache
def _kernel(device: str) -> Any:
    """Compiled for the first length, and once more for all others; CPUs have no backward, so nothing is compiled there.

    Not with dynamic=True: that makes a soft cap an input, for which there is no kernel (torch 2.13).
    """
    return flex_attention if device == "cpu" else torch.compile(flex_attention, fullgraph=True)


@cache
def _cap(softcap: float | None) -> Any:
    if softcap is None:
        return None

    def capped(score: Tensor, _batch: Tensor, _head: Tensor, _query: Tensor, _key: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    return capped
