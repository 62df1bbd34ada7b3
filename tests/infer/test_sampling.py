import math
from collections import Counter
from typing import Any

import pytest
import torch

from graft.errors import ConfigError
from graft.infer import GREEDY, Sampling
from graft.infer.sampling import choose

DRAWS = 2000
LOGITS = [0.5, 2.0, -1.0, 1.5, 0.0, -8.0, 1.0, 0.4]


def distribution(logits: list[float], temperature: float, top_k: int, top_p: float) -> dict[int, float]:
    """What tokens are drawn with what probability, by the definitions: temperature, then top-k, then top-p."""
    ranked = sorted(range(len(logits)), key=lambda token: -logits[token])[: top_k or None]
    shares = [math.exp(logits[token] / temperature) for token in ranked]
    kept: dict[int, float] = {}
    for token, share in zip(ranked, shares, strict=True):
        if sum(kept.values()) >= top_p:
            break
        kept[token] = share / sum(shares)
    return {token: probability / sum(kept.values()) for token, probability in kept.items()}


def draws(sampling: Sampling, count: int = DRAWS, logits: list[float] = LOGITS) -> Counter[int]:
    generator = torch.Generator().manual_seed(5)
    return Counter(choose(torch.tensor([logits]).expand(count, -1), [sampling] * count, [generator] * count))


@pytest.mark.parametrize(
    ("temperature", "top_k", "top_p"),
    [(1.0, 0, 1.0), (0.5, 0, 1.0), (2.0, 0, 1.0), (1.0, 3, 1.0), (1.0, 0, 0.7), (1.5, 4, 0.8), (1.0, 99, 0.999)],
)
def test_tokens_are_drawn_as_the_definitions_say(temperature: float, top_k: int, top_p: float) -> None:
    expected = distribution(LOGITS, temperature, top_k, top_p)
    found = draws(Sampling(temperature, top_k, top_p))
    assert set(found) <= set(expected)
    for token, probability in expected.items():
        deviation = math.sqrt(DRAWS * probability * (1 - probability))
        assert abs(found[token] - DRAWS * probability) <= 4.5 * deviation + 1e-9


@pytest.mark.parametrize(
    "sampling",
    [
        GREEDY,
        Sampling(temperature=0, top_k=3, top_p=0.5, seed=9),
        Sampling(temperature=1, top_k=1),
        Sampling(temperature=5, top_p=1e-9),
        Sampling(temperature=0.01),
        Sampling(temperature=1e-30),
        Sampling(temperature=1e-45),
    ],
    ids=str,
)
def test_the_most_likely_token_alone_is_left(sampling: Sampling) -> None:
    assert set(draws(sampling, 200)) == {1}


def test_of_equal_tokens_top_k_keeps_k() -> None:
    assert len(draws(Sampling(temperature=1, top_k=2), 300, [1.0] * 6)) == 2


def test_top_p_keeps_the_token_that_crosses_it_and_none_beyond() -> None:
    halves = [math.log(p) for p in (0.5, 0.25, 0.125, 0.125)]
    assert set(draws(Sampling(1, top_p=0.4), 300, halves)) == {0}
    assert set(draws(Sampling(1, top_p=0.6), 300, halves)) == {0, 1}
    assert set(draws(Sampling(1, top_p=0.8), 300, halves)) == {0, 1, 2}


def answer(sampling: Sampling, among: int, place: int) -> list[int]:
    """Twenty tokens of one branch, which stands among others that draw as well."""
    generators = [torch.Generator().manual_seed(100 + row) for row in range(among)]
    generators[place].manual_seed(sampling.seed)
    samplings = [Sampling(temperature=1.3) if row % 2 else GREEDY for row in range(among)]
    samplings[place] = sampling
    noise = torch.Generator().manual_seed(0)
    steps = torch.randn(20, 1, 50, generator=noise)
    return [choose(logits.expand(among, -1), samplings, generators)[place] for logits in steps]


def test_the_same_seed_gives_the_same_answer_whatever_else_is_being_generated() -> None:
    sampling = Sampling(temperature=1, top_p=0.9, seed=3)
    alone = answer(sampling, 1, 0)
    assert answer(sampling, 5, 0) == alone
    assert answer(sampling, 4, 3) == alone
    assert answer(Sampling(temperature=1, top_p=0.9, seed=4), 1, 0) != alone


def test_low_precision_logits_are_drawn_from_as_well() -> None:
    logits = torch.tensor([LOGITS], dtype=torch.bfloat16)
    assert choose(logits, [Sampling(temperature=1, top_k=1)], [torch.Generator()]) == [1]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"temperature": -0.1}, "temperature"),
        ({"temperature": math.nan}, "temperature"),
        ({"top_p": 0.0}, "top_p"),
        ({"top_p": 1.1}, "top_p"),
        ({"top_p": math.nan}, "top_p"),
        ({"top_k": -1}, "top_k"),
    ],
)
def test_an_option_out_of_range_is_named(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named) as caught:
        Sampling(**options)
    assert caught.value.fix
