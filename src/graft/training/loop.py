"""The training loop. It takes objects, not configuration: verbs build them."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import nn
from torch.optim import Optimizer

from graft.adapters import Bank
from graft.errors import Interrupted, RunError
from graft.forest import backward_edge_loss, forest_hidden_states, heads_of, plant_batch
from graft.records import Forest, TokenSequence
from graft.runtime import PeakMemory, derived_seed
from graft.signals import StopSignals
from graft.training.activations import saved_activations
from graft.training.batches import Batches
from graft.training.events import Event, Started, Stepped, Subscriber
from graft.training.saving import Saves

_SHOWN = 5  # rows named in an error before "and n more"


@dataclass(kw_only=True)
class Training:
    """One adapter being trained.

    Args:
        slot: of the adapter in the bank.
        optimizer: each of its groups has an `lr_factor`.
        rate: learning rate of each step, from 1.
        max_tokens: stream tokens per forest; a longer sample is an error at once.
        max_grad_norm: gradients are scaled down to it; 0 leaves them.
        seed: of dropout.
        recompute: every how many layers activations are computed again in the backward pass; 0 for none.
        offload: activations wait for the backward pass in the host's memory.
        evaluate: the held-out loss as the adapter stands; None where nothing is held out.
        eval_every: steps between calls of `evaluate`; 0 for the beginning and the end only.
        saves: where checkpoints go; None to write none.
        save_every: steps between checkpoints; 0 for none but the one that a signal asks for.
        signals: what may tell the training to stop.
    """

    bank: Bank
    slot: int
    batches: Batches
    optimizer: Optimizer
    rate: Callable[[int], float]
    max_tokens: int
    max_grad_norm: float
    seed: int
    recompute: int
    offload: bool
    evaluate: Callable[[], float] | None
    eval_every: int
    saves: Saves | None = None
    save_every: int = 0
    signals: StopSignals = field(default_factory=StopSignals)
    subscribers: Sequence[Subscriber] = ()
    memory: PeakMemory = field(init=False)
    _reached: int = field(init=False, default=0)
    _owed: Stepped | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.batches.check_fit(self.max_tokens, virtual_tokens=self.bank.adapters[self.slot].virtual_tokens)
        self.memory = PeakMemory(self.bank.model.device)

    def run(self, *, done: int = 0, owed: Stepped | None = None) -> None:
        """Train from the step after `done` to the last.

        Args:
            owed: the record of `done`, where its held-out loss is still to be measured and nobody was told of it.

        Raises:
            RunError: a loss or gradient is not finite, and the weights are those of the step before; or a checkpoint
                could not be written.
            Interrupted: a signal came. The step at hand was finished and saved.
        """
        with self.signals.deferred():
            try:
                self._run(done, owed)
                self._tell_saved(wait=True)
                self.signals.check()
            except Interrupted as told:
                if told.at_once:  # what is being written is not waited for: the checkpoint before it is whole
                    raise
                self._stop(told)
            except BaseException:
                if self.saves:
                    self.saves.settle()
                raise

    def _run(self, done: int, owed: Stepped | None) -> None:
        total = self.batches.total_steps
        self._reached = done
        if self.saves:
            self.saves.last = done
        with self.signals.at_once():
            first = None if done else self._held_out_loss(0)
        self._tell(Started(done, total, first))
        if owed:
            self._close(owed)
        for step in range(done + 1, total + 1):
            record = self._step(step)
            self._reached = step
            self._close(record)
            self._tell_saved()
            self.signals.check()

    def _close(self, record: Stepped) -> None:
        """Measure where that is due, tell of the step, and save where that is due."""
        step = record.step
        if step == self.batches.total_steps or (self.eval_every and step % self.eval_every == 0):
            self._owed = record
            with self.signals.at_once():
                record = replace(record, held_out_loss=self._held_out_loss(step))
            self._owed = None
        self._tell(record)
        if self.saves and self.save_every and step % self.save_every == 0 and self.saves.last != step:
            self.saves.begin(step)

    def _stop(self, told: Interrupted) -> None:
        """Save the last step that was done, unless it is, and leave."""
        step = self._reached
        if self.saves and step and self.saves.last != step:
            self.saves.begin(step, self._owed)
        self._tell_saved(wait=True)
        where = f"after step {step}, which is saved" if self.saves and step else f"after step {step}"
        fix = "the same command goes on from there" if self.saves and step else "the same command begins anew"
        raise Interrupted(told.exit_code - 128, where, fix=fix) from None

    def _step(self, step: int) -> Stepped:
        batch = [self.bank.prompted(replace(s, adapter_slot=self.slot)) for s in self.batches.of_step(step)]
        adapter = self.bank.adapters[self.slot]
        forests = plant_batch(batch, max_tokens=self.max_tokens, share=adapter.deterministic)
        weight = sum(forest.edges.total_weight for forest in forests)
        if not weight:
            raise RunError(f"step {step}: no sample has a token to train on. {_rows(batch)}", fix="look at these rows")
        self.optimizer.zero_grad()  # a step that was broken off leaves gradients
        torch.manual_seed(derived_seed(self.seed, "dropout", step))
        loss = self._backward(forests) / weight
        parameters = [parameter for _, parameter in adapter.named_parameters()]
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= weight
        norm = float(nn.utils.clip_grad_norm_(parameters, self.max_grad_norm or math.inf))
        self._check_finite(step, loss, norm, batch)
        rate = self.rate(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["lr_factor"]
        self.optimizer.step()
        return Stepped(
            step=step,
            time=time.time(),
            loss=loss,
            lr=rate,
            grad_norm=norm,
            samples=len(batch),
            tokens_logical=sum(forest.logical_tokens for forest in forests),
            tokens_executed=sum(len(forest) for forest in forests),
            tokens_trained=sum(forest.trained_tokens for forest in forests),
            peak_memory_bytes=self.memory.bytes(),
        )

    def _backward(self, forests: Sequence[Forest]) -> float:
        """Add the gradients of all forests up; returns the weighted sum of the losses."""
        model, adapter = self.bank.model, self.bank.adapters[self.slot]
        loss = 0.0
        adapter.train()
        try:
            with saved_activations(model, recompute=self.recompute, offload=self.offload):
                for forest in forests:
                    if len(forest.edges):
                        with self.bank.routed(forest.routes(), needed=forest.edges.distinct_sources):
                            hidden = forest_hidden_states(model, forest)
                            heads = heads_of(model, forest.routes())
                            loss += backward_edge_loss(heads, hidden, forest.edges)
        finally:
            adapter.train(False)
        return loss

    def _held_out_loss(self, step: int) -> float | None:
        if self.evaluate is None:
            return None
        loss = self.evaluate()
        if not math.isfinite(loss):
            raise RunError(f"after step {step} the held-out loss is {loss}", fix="lower train.learning_rate")
        return loss

    def _check_finite(self, step: int, loss: float, norm: float, batch: Sequence[TokenSequence]) -> None:
        if math.isfinite(loss) and math.isfinite(norm):
            return
        raise RunError(
            f"step {step}: loss {loss} and gradient norm {norm} are not both finite; the weights are those of step "
            f"{step - 1}. {_rows(batch)}",
            fix="lower train.learning_rate, or look at these rows",
        )

    def _tell_saved(self, *, wait: bool = False) -> None:
        for event in self.saves.take(wait=wait) if self.saves else ():
            self._tell(event)

    def _tell(self, event: Event) -> None:
        for subscriber in self.subscribers:
            subscriber(event)


def _rows(batch: Sequence[TokenSequence]) -> str:
    """Where the samples of a step stand in the data."""
    more = f" and {len(batch) - _SHOWN} more" if len(batch) > _SHOWN else ""
    return f"Its rows: {', '.join(str(sample.source) for sample in batch[:_SHOWN])}{more}"
