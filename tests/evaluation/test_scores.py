"""Scores of a candidate are those of its own loss and greedy answers."""

import math

import pytest
import torch

from graft.adapters import Bank
from graft.evaluation import Question, held_out_loss, score
from graft.infer import Engine, Request
from tests.families import build, samples


def test_held_out_loss_is_the_weighted_mean_over_the_samples() -> None:
    model = build("llama-gqa")
    rows = [s for s in samples(40, seed=2) if s.trained_tokens]
    reference = build("llama-gqa", attached=False)
    total = weight = 0.0
    for row in rows:
        logits = reference(torch.tensor([row.ids])).logits[0].log_softmax(-1)
        for place in range(1, len(row)):
            if row.trained[place]:
                total -= row.weight * float(logits[place - 1, row.ids[place]])
                weight += row.weight
    for max_tokens in (10_000, 40):
        assert held_out_loss(Bank(model), None, rows, max_tokens=max_tokens) == pytest.approx(total / weight, rel=1e-6)


def test_score_compares_greedy_answers_with_the_references() -> None:
    bank = Bank(build("llama-gqa"))
    rows = [s for s in samples(4, seed=2) if s.trained_tokens]

    def decode(ids: list[int]) -> str:
        return " ".join(f"w{i}" for i in ids)

    prompts = [list(row.ids[:3]) for row in rows]
    right = [decode(a) for a in Engine(bank, [0]).complete([Request(p, None, 6) for p in prompts])]
    references = [right[0], *("w999" for _ in rows[1:])]
    questions = [Question("?", r, p, row) for r, p, row in zip(references, prompts, rows, strict=True)]
    scored = score(bank, None, questions, stop_ids=[0], decode=decode, max_new_tokens=6, max_tokens=500)
    assert scored.answers == right
    figures = scored.score
    assert figures.exact_match == pytest.approx(1 / len(rows))
    assert figures.rouge_l == pytest.approx(1 / len(rows))
    assert figures.perplexity == pytest.approx(math.exp(figures.loss))
    assert figures.seconds > 0
    assert figures.tokens_per_s > 0
    assert figures.peak_memory_bytes > 0
    assert set(figures.as_json()) == {
        "loss", "perplexity", "exact_match", "rouge_l", "seconds", "tokens_per_s", "peak_memory_bytes"
    }  # fmt: skip
