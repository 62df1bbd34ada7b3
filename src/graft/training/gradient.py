"""The gradient of one optimizer step, by forests that fit memory."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.nn.utils import get_total_norm

from graft.adapters import Bank
from graft.errors import RunError
from graft.forest import backward_edge_loss, forest_hidden_states, heads_of, plant, plant_batch
from graft.records import Forest, TokenSequence
from graft.runtime import is_out_of_memory, said_by_allocator
from graft.training.activations import saved_activations
from graft.training.memory import Room


@dataclass(frozen=True)
class _Short:
    """Memory did not do for `forest`."""

    forest: Forest
    why: str


@dataclass(kw_only=True)
class Gradient:
    """Adds the gradients of a step's forests up in the parameters of the adapter in `slot`.

    Args:
        max_tokens: stream tokens per forest. It is lowered for good where a forest does not fit.
        recompute: every how many layers activations are computed again in the backward pass; 0 for none.
        offload: activations wait for the backward pass in the host's memory.
    """

    bank: Bank
    slot: int
    max_tokens: int
    recompute: int
    offload: bool
    room: Room

    def of(
        self, samples: Sequence[TokenSequence], *, seed: int, lowered: Callable[[str, int], None]
    ) -> tuple[float, list[Forest]]:
        """The weighted sum of the losses of `samples`, whose gradients are left in the parameters; and their forests.

        A step that runs out of memory begins anew with smaller forests, so that nothing is counted twice, and what it
        comes to depends on their size alone.

        Args:
            seed: of dropout.
            lowered: is told why, and the new `max_tokens`.

        Raises:
            RunError: a sample does not fit memory by itself.
        """
        share = self.bank.adapters[self.slot].deterministic
        while True:
            forests = plant_batch(samples, max_tokens=self.max_tokens, share=share)
            if self.room.watches and not self.room.tokens:
                self._measure(samples, len(forests[0]))
            self.clear()
            torch.manual_seed(seed)
            outcome = self._sum(forests)
            if isinstance(outcome, float):
                return outcome, forests
            self.clear()
            self.room.collect()
            self._lower(outcome, samples, lowered)

    def alone(self, sample: TokenSequence) -> bool:
        """Whether loss and gradients of `sample` by itself are finite. No gradient is left, and there is no dropout."""
        self.clear()
        outcome = self._sum([plant([sample])], dropout=False)
        gradients = [parameter.grad for parameter in self._parameters() if parameter.grad is not None]
        norm = float(get_total_norm(gradients))
        self.clear()
        return isinstance(outcome, _Short) or (math.isfinite(outcome) and math.isfinite(norm))

    def clear(self) -> None:
        """Drop all gradients; a step that was broken off leaves some."""
        for parameter in self._parameters():
            parameter.grad = None

    def _parameters(self) -> list[torch.nn.Parameter]:
        return [parameter for _, parameter in self.bank.adapters[self.slot].named_parameters()]

    def _sum(self, forests: Sequence[Forest], *, dropout: bool = True) -> float | _Short:
        adapter = self.bank.adapters[self.slot]
        loss = 0.0
        adapter.train(dropout)
        try:
            with saved_activations(self.bank.model, recompute=self.recompute, offload=self.offload):
                for forest in forests:
                    added = self._add(forest) if len(forest.edges) else 0.0
                    if isinstance(added, _Short):
                        return added
                    loss += added
        finally:
            adapter.train(False)
        return loss

    def _add(self, forest: Forest) -> float | _Short:
        if why := self.room.shortage(len(forest)):
            return _Short(forest, why)
        try:
            with self.room.measured(len(forest)):
                return self._backward(forest)
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            return _Short(forest, said_by_allocator(error))

    def _backward(self, forest: Forest) -> float:
        with self.bank.routed(forest.routes(), needed=forest.edges.distinct_sources):
            hidden = forest_hidden_states(self.bank.model, forest)
            return backward_edge_loss(heads_of(self.bank.model, forest.routes()), hidden, forest.edges)

    def _lower(self, short: _Short, samples: Sequence[TokenSequence], lowered: Callable[[str, int], None]) -> None:
        tokens = len(short.forest)
        if short.forest.samples == 1:
            ids = tuple(short.forest.ids[short.forest.trace(0)].tolist())
            source = next((sample.source for sample in samples if sample.ids == ids), None)
            way = "set train.recompute=1" if self.recompute != 1 else "use a machine with more memory"
            raise RunError(
                f"{source}: memory does not do for a sample of {tokens} tokens by itself: {short.why}",
                fix=f"{way}, or data.cutoff below {tokens}; the same command goes on where only memory was short",
            )
        self.max_tokens = tokens // 2
        lowered(f"memory did not do for a forest of {tokens} tokens ({short.why})", self.max_tokens)

    def _measure(self, samples: Sequence[TokenSequence], longest: int) -> None:
        """Run ever larger forests, from one sample on, until it is clear whether one of `longest` tokens fits."""
        trained = sorted((sample for sample in samples if sample.trained_tokens), key=len)
        tokens = len(trained[0]) if trained else longest
        while trained and (not self.room.tokens or self.room.shortage(longest)) and tokens < longest:
            few, total = [trained[0]], len(trained[0])
            for sample in trained[1:]:
                total += len(sample)
                if total > tokens:
                    break
                few.append(sample)
            self.clear()
            outcome = self._sum([plant(few, share=self.bank.adapters[self.slot].deterministic)])
            tokens *= 2
            if isinstance(outcome, _Short):
                return
