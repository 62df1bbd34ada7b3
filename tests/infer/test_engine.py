"""Generation through the forest gives what one-by-one generation gives."""

import random

import pytest
import torch

from graft.adapters import METHODS, Bank
from graft.config import LoraConfig
from graft.errors import ModelError
from graft.infer import Engine, Request, Sampling
from tests.families import FAMILIES, VOCABULARY, build

STOP = 3


def prompts(count: int, seed: int = 0) -> list[list[int]]:
    """Prompts of different lengths, most with a stem in common."""
    rng = random.Random(seed)
    stem = rng.choices(range(VOCABULARY), k=24)
    return [stem[: rng.randint(1, 24)] + rng.choices(range(VOCABULARY), k=rng.randint(1, 9)) for _ in range(count)]


def with_adapter(family: str) -> tuple[Bank, int]:
    model = build(family)
    bank = Bank(model)
    adapter = METHODS["lora"].create(model, LoraConfig(r=4), seed=1)
    for number, (_, parameter) in enumerate(adapter.named_parameters()):
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(number))
        parameter.data = parameter.data.double()
    return bank, bank.add(adapter)


@pytest.mark.parametrize("family", FAMILIES)
def test_greedy_answers_equal_those_of_generate(family: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.infer.branches.ROOM", 10)  # the store grows, and more than once
    bank, _ = with_adapter(family)
    reference = build(family, attached=False)
    asked = prompts(5)
    answers = Engine(bank, [STOP]).complete([Request(p, None, 30) for p in asked])
    for prompt, answer in zip(asked, answers, strict=True):
        expected = reference.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            max_new_tokens=30,
            do_sample=False,
            eos_token_id=STOP,
            pad_token_id=STOP,
        )[0, len(prompt) :].tolist()
        assert answer == (expected[: expected.index(STOP)] if STOP in expected else expected)


def test_base_and_adapter_in_one_batch_answer_as_alone() -> None:
    bank, slot = with_adapter("llama-gqa")
    engine = Engine(bank, [STOP])
    requests = [Request(p, random.Random(i).choice([None, slot]), 40) for i, p in enumerate(prompts(90))]
    together = engine.complete(requests)
    assert together == [engine.complete([request])[0] for request in requests]
    assert len({tuple(answer) for answer in together}) > 1


def test_adapter_answers_as_the_merged_model() -> None:
    bank, slot = with_adapter("llama-gqa")
    asked = prompts(10)
    answers = Engine(bank, [STOP]).complete([Request(p, slot, 40) for p in asked])
    base = Engine(bank, [STOP]).complete([Request(p, None, 40) for p in asked])
    bank.merge(slot)
    merged = Engine(bank, [STOP]).complete([Request(p, None, 40) for p in asked])
    assert merged == answers
    assert merged != base


def test_sampling_does_not_depend_on_what_else_is_generated() -> None:
    bank, slot = with_adapter("llama-gqa")
    engine = Engine(bank, [STOP])
    requests = [
        Request(p, slot, 20, Sampling(temperature=1.2, top_k=20, top_p=0.95, seed=i)) for i, p in enumerate(prompts(6))
    ]
    together = engine.complete(requests)
    assert together == [engine.complete([request])[0] for request in requests]
    again = [Request(r.prompt, slot, 20, Sampling(temperature=1.2, seed=99)) for r in requests]
    assert engine.complete(again) != together


def test_tokens_come_in_step_not_one_answer_after_another() -> None:
    bank, _ = with_adapter("llama-gqa")
    requests = [Request(p, None, 5) for p in prompts(3)]
    first = [token.request for token, _ in zip(Engine(bank, []).stream(requests), range(3), strict=False)]
    assert sorted(first) == [0, 1, 2]


def test_length_is_bounded_by_the_request_and_by_the_models_positions() -> None:
    bank, _ = with_adapter("llama-gqa")
    limit = bank.model.config.max_position_embeddings
    engine = Engine(bank, [])
    assert [len(a) for a in engine.complete([Request([1], None, 7), Request([1, 2], None, 3)])] == [7, 3]
    assert len(engine.complete([Request([1] * (limit - 4), None, 100)])[0]) == 4
    with pytest.raises(ModelError, match=f"{limit} positions"):
        engine.complete([Request([1] * limit, None, 1)])
