"""Generation: many prompts at once through the forest's attention, with keys and values kept."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graft.adapters import Bank
from graft.errors import ModelError
from graft.forest import attention_over, heads_of, hidden_states, plant
from graft.infer.branches import BranchAttention, RecordingAttention
from graft.infer.sampling import GREEDY, Sampling, choose
from graft.model import positions_of
from graft.records import Forest, Route, TokenSequence, merge_routes
from graft.runtime import derived_seed

MAX_LIVE = 64
"""Branches that grow at a time: more do not go faster on a CPU, and each holds its keys and values."""


MAX_PROMPT_TOKENS = 16_384
"""Tokens of prompts that are read at a time, shared ones counted again: it bounds the memory of the first pass."""


@dataclass(frozen=True)
class Request:
    """A prompt to be continued.

    Args:
        slot: the adapter that answers; None for the base.
        max_new_tokens: the answer ends here if it has not ended by itself.
    """

    prompt: Sequence[int]
    slot: int | None
    max_new_tokens: int
    sampling: Sampling = GREEDY


@dataclass(frozen=True)
class Token:
    """The next token of the answer to the request of this number."""

    request: int
    id: int


class Engine:
    """Answers requests with the model and adapters of a bank.

    Args:
        stop_ids: tokens that end an answer; they are not part of it.
    """

    def __init__(self, bank: Bank, stop_ids: Sequence[int]) -> None:
        self._bank = bank
        self._stop_ids = frozenset(stop_ids)

    def complete(self, requests: Sequence[Request]) -> list[list[int]]:
        """The answers, in the order of the requests."""
        answers: list[list[int]] = [[] for _ in requests]
        for token in self.stream(requests):
            answers[token.request].append(token.id)
        return answers

    @torch.inference_mode()
    def stream(self, requests: Sequence[Request]) -> Iterator[Token]:
        """The tokens of all answers as they come.

        Raises:
            ModelError: a prompt leaves the model no position to answer in.
        """
        room = positions_of(self._bank.model.config)
        prompts = [self._bank.prompted(_prompt_of(request)) for request in requests]
        for prompt in prompts:
            if len(prompt) >= room:
                what = f"the prompt has {len(prompt)} tokens, and the model {room} positions"
                raise ModelError(what, fix="shorten the prompt")
        # branches of one slot stand together, and those of one wave are about as long: little padding
        order = sorted(range(len(requests)), key=lambda i: (_slot_order(requests[i].slot), len(requests[i].prompt)))
        for wave in _waves(requests, order):
            left = {i: min(requests[i].max_new_tokens, room - len(prompts[i])) for i in wave}
            yield from self._wave(requests, wave, plant([prompts[i] for i in wave]), left)

    def _wave(
        self, requests: Sequence[Request], live: list[int], forest: Forest, left: dict[int, int]
    ) -> Iterator[Token]:
        logits, store = self._read(forest)
        generators = {i: torch.Generator().manual_seed(derived_seed(requests[i].sampling.seed)) for i in live}
        while True:
            chosen = choose(logits, [requests[i].sampling for i in live], [generators[i] for i in live])
            growing = []
            for row, (i, token) in enumerate(zip(live, chosen, strict=True)):
                if token in self._stop_ids or left[i] == 0:
                    continue
                yield Token(i, token)
                left[i] -= 1
                if left[i]:
                    growing.append(row)
            if not growing:
                return
            if len(growing) < len(live):
                store.keep(growing)
                live = [live[row] for row in growing]
            ids = torch.tensor([chosen[row] for row in growing])
            logits = self._grow(ids, [requests[i].slot for i in live], store)

    def _read(self, forest: Forest) -> tuple[Tensor, BranchAttention]:
        """The pass over the prompts: logits after each (n, V), and what the branches go on from."""
        model = self._bank.model
        attention = RecordingAttention(attention_over(model, forest))
        with self._bank.routed(forest.routes(), needed=torch.tensor(forest.ends).unique()):
            hidden = hidden_states(model, forest.ids, forest.positions, attention)
        logits = self._logits(hidden, forest.ends, forest.routes())
        traces = [forest.trace(sample) for sample in range(forest.samples)]
        return logits, BranchAttention(attention, traces, model.device)

    def _grow(self, ids: Tensor, slots: list[int | None], store: BranchAttention) -> Tensor:
        """One more token in every branch (n,); the logits after it (n, V)."""
        routes = merge_routes(Route(slot, row, row + 1) for row, slot in enumerate(slots))
        with self._bank.routed(routes):
            hidden = hidden_states(self._bank.model, ids, store.advance(), store)
        return self._logits(hidden, range(len(ids)), routes)

    def _logits(self, hidden: Tensor, ends: Sequence[int], routes: Sequence[Route]) -> Tensor:
        """Logits (n, V) after the tokens at `ends` of a stream."""
        heads = heads_of(self._bank.model, routes)
        if len(heads) == 1:
            return heads[0].head(hidden[list(ends)])
        of = [next(part.head for part in heads if part.start <= end < part.stop) for end in ends]
        return torch.cat([head(hidden[end][None]) for head, end in zip(of, ends, strict=True)])


def _waves(requests: Sequence[Request], order: Sequence[int]) -> Iterator[list[int]]:
    """`order` in runs of at most MAX_LIVE requests whose prompts have at most MAX_PROMPT_TOKENS together, or one."""
    wave: list[int] = []
    tokens = 0
    for i in order:
        tokens += len(requests[i].prompt)
        if wave and (len(wave) == MAX_LIVE or tokens > MAX_PROMPT_TOKENS):
            yield wave
            wave, tokens = [], len(requests[i].prompt)
        wave.append(i)
    if wave:
        yield wave


def _prompt_of(request: Request) -> TokenSequence:
    return TokenSequence(tuple(request.prompt), (False,) * len(request.prompt), adapter_slot=request.slot)


def _slot_order(slot: int | None) -> int:
    return -1 if slot is None else slot
