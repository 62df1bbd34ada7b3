"""What base, adapter and merged model do on held-out data."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace

import torch

from graft.adapters import Bank
from graft.errors import DataError
from graft.evaluation.metrics import exact_match, rouge_l
from graft.forest import edge_losses, forest_hidden_states, heads_of, plant_batch
from graft.infer import Engine, Request
from graft.records import Forest, TokenSequence
from graft.runtime import PeakMemory, is_out_of_memory
from graft.training.numbers import blame

_BATCH = 32  # samples laid out together: they share prefixes, and lengths vary little in total


@dataclass(frozen=True)
class Question:
    """A held-out row: what is asked and what should be answered; the prompt, and both as one sample for the loss."""

    asked: str
    reference: str
    prompt_ids: Sequence[int]
    sample: TokenSequence


@dataclass(frozen=True)
class Score:
    """Figures of one candidate.

    Args:
        loss: mean over the held-out answers' tokens, in nats.
        exact_match: share of greedy answers that are the reference.
        rouge_l: mean F1.
        seconds: for losses and answers together.
        tokens_per_s: generated tokens per second of generation.
        peak_memory_bytes: the most in use meanwhile, the model included.
    """

    loss: float
    perplexity: float
    exact_match: float
    rouge_l: float
    seconds: float
    tokens_per_s: float
    peak_memory_bytes: int

    def as_json(self) -> dict[str, float]:
        return asdict(self)


@dataclass(frozen=True)
class Scored:
    """A candidate's figures and its answers, in the order of the questions."""

    score: Score
    answers: list[str]


def held_out_loss(bank: Bank, slot: int | None, samples: Sequence[TokenSequence], *, max_tokens: int) -> float:
    """Mean loss over the trained tokens of `samples` in nats, answered by the adapter in `slot` or the base (None).

    Args:
        max_tokens: stream tokens per forest; fewer where memory does not do.

    Raises:
        DataError: it is no finite number; the samples at fault are named.
    """
    placed = [bank.prompted(replace(sample, adapter_slot=slot)) for sample in samples]
    total = weight = 0.0
    with torch.inference_mode():
        for start in range(0, len(placed), _BATCH):
            summed, weighed, max_tokens = _summed(bank, placed[start : start + _BATCH], max_tokens)
            total, weight = total + summed, weight + weighed
        if not math.isfinite(total):
            guilty = [sample for sample in placed if not math.isfinite(_summed(bank, [sample], max_tokens)[0])]
            fix = "lower train.learning_rate, or look at these rows"
            raise DataError(f"the held-out loss is {total / weight}. {blame(guilty, placed)}", fix=fix)
    return total / weight


def _summed(bank: Bank, samples: Sequence[TokenSequence], max_tokens: int) -> tuple[float, float, int]:
    """The weighted sum of the losses, the sum of the weights, and the tokens of a forest that memory did for."""
    while True:
        forests = plant_batch(samples, max_tokens=max_tokens)
        try:
            total = sum(_loss(bank, forest) for forest in forests if len(forest.edges))
            return total, sum(forest.edges.total_weight for forest in forests), max_tokens
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error) or all(forest.samples == 1 for forest in forests):
                raise
        max_tokens = min(max_tokens, len(forests[0])) // 2


def _loss(bank: Bank, forest: Forest) -> float:
    with bank.routed(forest.routes(), needed=forest.edges.distinct_sources):
        hidden = forest_hidden_states(bank.model, forest)
    losses = edge_losses(heads_of(bank.model, forest.routes()), hidden, forest.edges)
    return float((losses * forest.edges.weights).sum())


def score(
    bank: Bank,
    slot: int | None,
    questions: Sequence[Question],
    *,
    stop_ids: Sequence[int],
    decode: Callable[[list[int]], str],
    max_new_tokens: int,
    max_tokens: int,
) -> Scored:
    """Loss and greedy answers of one candidate on `questions`."""
    memory = PeakMemory(bank.model.device)
    started = time.perf_counter()
    loss = held_out_loss(bank, slot, [q.sample for q in questions], max_tokens=max_tokens)
    generating = time.perf_counter()
    completions = _complete(bank, slot, questions, stop_ids, max_new_tokens)
    finished = time.perf_counter()
    answers = [decode(ids) for ids in completions]
    figures = Score(
        loss=loss,
        perplexity=math.exp(min(loss, 700.0)),  # e^700 is near the largest float
        **_nearness(questions, answers),
        seconds=finished - started,
        tokens_per_s=sum(map(len, completions)) / (finished - generating),
        peak_memory_bytes=memory.bytes(),
    )
    return Scored(figures, answers)


def answer_figures(
    bank: Bank,
    slot: int | None,
    questions: Sequence[Question],
    *,
    stop_ids: Sequence[int],
    decode: Callable[[list[int]], str],
    max_new_tokens: int,
) -> dict[str, float]:
    """How near the greedy answers are to the references: `exact_match` and `rouge_l`, as in `Score`."""
    completions = _complete(bank, slot, questions, stop_ids, max_new_tokens)
    return _nearness(questions, [decode(ids) for ids in completions])


def _complete(
    bank: Bank, slot: int | None, questions: Sequence[Question], stop_ids: Sequence[int], max_new_tokens: int
) -> list[list[int]]:
    return Engine(bank, stop_ids).complete([Request(q.prompt_ids, slot, max_new_tokens) for q in questions])


def _nearness(questions: Sequence[Question], answers: Sequence[str]) -> dict[str, float]:
    pairs = [(question.reference, answer) for question, answer in zip(questions, answers, strict=True)]
    return {
        "exact_match": sum(exact_match(*pair) for pair in pairs) / len(pairs),
        "rouge_l": sum(rouge_l(*pair) for pair in pairs) / len(pairs),
    }
