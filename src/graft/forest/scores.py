"""What every attention back end is given and gives."""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor


@dataclass(frozen=True, slots=True)
class Scores:
    """How a layer's family scores a query against a key that it may see.

    Args:
        scaling: of the product of the two.
        window: a token sees so many tokens of its path, itself included, counted in depth; None for all of them.
        softcap: scores are softcap * tanh(score / softcap) where it is set (Gemma 2, arXiv 2408.00118, section 2).
    """

    scaling: float
    window: int | None = None
    softcap: float | None = None


class ForestAttention(Protocol):
    """Who may see whom in one stream.

    T = tokens in the stream, H = query heads, K = key/value heads, D = head size.
    """

    def attend(self, layer: int, query_HTD: Tensor, key_KTD: Tensor, value_KTD: Tensor, scores: Scores) -> Tensor:
        """What the stream's tokens take from those that they may see, (1, H, T, D); all tensors with a batch of 1."""
        ...


class Grafted(Protocol):
    """What adapters do to the attention of a layer; a layer that has one keeps it as `grafted`."""

    def keys_values(self, key_KTD: Tensor, value_KTD: Tensor) -> tuple[Tensor, Tensor]:
        """The stream's keys and values (1, K, T, D), as the back end is to see them."""
        ...

    def added(self, query_HTD: Tensor, seen_HTD: Tensor, scaling: float) -> Tensor:
        """What the queries saw (1, H, T, D), and what they are given on top."""
        ...
