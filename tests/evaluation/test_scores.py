"""Scores of a candidate are those of its own loss and greedy answers."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from graft.adapters import Bank
from graft.errors import DataError
from graft.evaluation import Question, held_out_loss, score
from graft.infer import Engine, Request
from graft.records import Source, TokenSequence
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


def test_samples_that_have_no_finite_loss_are_named() -> None:
    bank = Bank(build("llama-gqa"))
    rows = [replace(s, source=Source("rows.json", n)) for n, s in enumerate(samples(40, seed=2)) if s.trained_tokens]
    clean = [replace(row, ids=tuple(8 if token == 7 else token for token in row.ids)) for row in rows]
    bad = TokenSequence((1, 7, 3), (False, True, True), Source("bad.json", 5))
    bank.model.get_input_embeddings().weight.data[7] = math.nan
    with pytest.raises(DataError, match=r"the held-out loss is nan\. At fault: bad\.json:5\n"):
        held_out_loss(bank, None, [*clean, bad], max_tokens=500)
    bank.model.get_input_embeddings().weight.data.fill_(math.nan)
    with pytest.raises(DataError, match=r"Each of its rows gives such numbers by itself"):
        held_out_loss(bank, None, clean, max_tokens=500)


def test_where_memory_does_not_do_forests_are_smaller_and_nothing_is_counted_twice() -> None:
    bank = Bank(build("llama-gqa"))
    rows = samples(40, seed=2)
    expected = held_out_loss(bank, None, rows, max_tokens=500)
    ran: list[int] = []

    def breaks(above: int) -> Callable[..., None]:
        def hook(module: object, given: tuple[torch.Tensor, ...], named: object, found: object) -> None:
            ran.append(given[0].shape[-1])
            if ran[-1] > above:
                raise torch.OutOfMemoryError("CUDA out of memory.")

        return hook

    embeddings = bank.model.get_input_embeddings()
    narrow = embeddings.register_forward_hook(breaks(60), with_kwargs=True)
    assert held_out_loss(bank, None, rows, max_tokens=500) == pytest.approx(expected, rel=1e-6)
    assert sum(tokens > 60 for tokens in ran) in (1, 2), "the size is kept for the batches that follow"
    narrow.remove()
    embeddings.register_forward_hook(breaks(3), with_kwargs=True)
    with pytest.raises(torch.OutOfMemoryError):
        held_out_loss(bank, None, rows, max_tokens=500)


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
