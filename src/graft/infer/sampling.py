"""From logits to the next token.

n = live branches, V = vocabulary.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graft.errors import ConfigError


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen.

    Args:
        temperature: logits are divided by it; 0 takes the most likely token.
        top_k: only the k most likely tokens; 0 for all.
        top_p: only the most likely tokens that together have this probability; 1 for all.
        seed: same seed, same answer, whatever else is being generated.
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not self.temperature >= 0:
            raise ConfigError(f"temperature {self.temperature} is not 0 or above", fix="0 is greedy, 1 the model's own")
        if not 0 < self.top_p <= 1:
            raise ConfigError(f"top_p {self.top_p} is not in (0, 1]", fix="1 keeps every token")
        if self.top_k < 0:
            raise ConfigError(f"top_k {self.top_k} is below 0", fix="0 keeps every token")


GREEDY = Sampling()


def choose(logits: Tensor, samplings: Sequence[Sampling], generators: Sequence[torch.Generator]) -> list[int]:
    """The next token of each branch, from logits (n, V)."""
    chosen: list[int] = logits.argmax(dim=-1).tolist()
    for row, (sampling, generator) in enumerate(zip(samplings, generators, strict=True)):
        if sampling.temperature > 0:
            chosen[row] = _draw(logits[row].cpu(), sampling, generator)
    return chosen


def _draw(logits: Tensor, sampling: Sampling, generator: torch.Generator) -> int:
    scaled = (logits.double() - logits.max()) / sampling.temperature  # at most 0: the smallest temperature is fine
    ordered, tokens = scaled.sort(descending=True, stable=True)
    if sampling.top_k:
        ordered = ordered[: sampling.top_k]
    probabilities = ordered.softmax(dim=-1)
    if sampling.top_p < 1:
        before = probabilities.cumsum(dim=-1) - probabilities  # the token that crosses top_p is still kept
        probabilities = probabilities.masked_fill(before >= sampling.top_p, 0.0)
    return int(tokens[torch.multinomial(probabilities, 1, generator=generator)])
