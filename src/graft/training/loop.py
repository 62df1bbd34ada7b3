"""The training loop. It takes objects, not configuration: verbs build them."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from torch import nn
from torch.optim import Optimizer

from graft.adapters import Bank
from graft.errors import DataError, Interrupted, RunError
from graft.records import TokenSequence
from graft.runtime import derived_seed
from graft.signals import StopSignals
from graft.training.batches import Batches
from graft.training.events import Ended, Evaluated, Event, Started, Stepped, Subscriber, Warned
from graft.training.gradient import Gradient
from graft.training.memory import Room
from graft.training.numbers import BadNumbers, LossWatch, blame, rows_at_fault, rows_of, worst_rows
from graft.training.saving import Saves
from graft.training.selection import Selection


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
        evaluate: figures of the held-out rows as the adapter stands, `loss` among them; None where nothing is held out.
        eval_every: steps between calls of `evaluate`; 0 for the beginning and the end only.
        selection: which step is the best, and whether to stop.
        bad_numbers: what becomes of a step whose numbers are not finite.
        restore: puts adapter and optimizer back as they are in the checkpoint after a step; for rolling back.
        saves: where checkpoints go; None to write none.
        save_every: steps between checkpoints; 0 for none but the best and the one that a signal asks for.
        signals: what may tell the training to stop.
        room: what memory there is for a forest.
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
    evaluate: Callable[[], Mapping[str, float]] | None
    eval_every: int
    selection: Selection = field(default_factory=Selection)
    bad_numbers: BadNumbers = field(default_factory=BadNumbers)
    restore: Callable[[int], None] | None = None
    saves: Saves | None = None
    save_every: int = 0
    signals: StopSignals = field(default_factory=StopSignals)
    subscribers: Sequence[Subscriber] = ()
    room: Room = field(init=False)
    ended: str = field(init=False, default="")
    """Why the run is at its end."""
    _losses: LossWatch = field(init=False, default_factory=LossWatch)
    _lowered: int | None = field(init=False, default=None)
    _reached: int = field(init=False, default=0)
    _owed: Stepped | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.batches.check_fit(self.max_tokens, virtual_tokens=self.bank.adapters[self.slot].virtual_tokens)
        self.room = Room(self.bank.model.device)

    def recall(self, lines: Sequence[Mapping[str, Any]]) -> None:
        """Stand as after the steps that these lines of `metrics.jsonl` tell of: what else there is to know follows
        from them. `selection` has to be replayed apart."""
        for line in lines:
            self._note(line.get("loss"), line.get("max_tokens"), left_out="left_out" in line)

    def run(self, *, done: int = 0, owed: Stepped | None = None) -> None:
        """Train from the step after `done` to the last, or until `selection` says that it is enough.

        Args:
            owed: the record of `done`, where its held-out loss is still to be measured and nobody was told of it.

        Raises:
            RunError: a loss or gradient is not finite, and the weights are those of the step before; or memory does
                not do for a single sample; or a checkpoint could not be written.
            Interrupted: a signal came. The step at hand was finished and saved.
        """
        with self.signals.deferred():
            try:
                self._run_or_stop(done, owed)
            except Interrupted:
                raise
            except BaseException as error:
                if self.saves:
                    self.saves.settle()
                self._tell(Ended(self._reached, f"{type(error).__name__}: {error}", False))
                raise

    def _run_or_stop(self, done: int, owed: Stepped | None) -> None:
        try:
            self._run(done, owed)
            self._tell_saved(wait=True)
            self.signals.check()
            self._tell(Ended(self._reached, self.ended, True, self.selection.metrics))
        except Interrupted as told:
            if told.at_once:  # what is being written is not waited for: the checkpoint before it is whole
                raise
            self._stop(told)

    def _run(self, done: int, owed: Stepped | None) -> None:
        total = self.batches.total_steps
        self._reached = done
        if self.saves:
            self.saves.last = done
        with self.signals.at_once():
            first = None if done else self._measure(0)
        self._tell(Started(done, total, first["loss"] if first else None))
        if first:
            self._tell(Evaluated(0, first))
        if owed:
            self._close(owed)
        for step in range(done + 1, total + 1):
            if self.selection.why_stop:
                break
            record = self._step(step)
            self._reached = step
            self._close(record)
            self._tell_saved()
            self.signals.check()
        self.ended = self.selection.why_stop if self._reached < total else "all steps are done"

    def _close(self, record: Stepped) -> None:
        """Measure where that is due, tell of the step, and save where that is due."""
        step, last = record.step, record.step == self.batches.total_steps
        metrics = None
        if last or (self.eval_every and step % self.eval_every == 0):
            self._owed = record
            with self.signals.at_once():
                metrics = self._measure(step)
            self._owed = None
        if metrics:
            others = {name: figure for name, figure in metrics.items() if name != "loss"}
            record = replace(record, held_out_loss=metrics["loss"], held_out=others or None)
        smaller = record.max_tokens is not None and record.max_tokens != self._lowered
        self._note(record.loss, record.max_tokens, left_out=record.left_out is not None)
        best = metrics is not None and self.selection.take(step, metrics)
        self._tell(record)
        if metrics:
            self._tell(Evaluated(step, metrics))
        # A step with smaller forests is saved, for a resumed run is to have them as well; the last is handed over.
        due = (self.save_every and step % self.save_every == 0) or smaller or (best and not last)
        if self.saves and due and self.saves.last != step:
            self.saves.begin(step)

    def _note(self, loss: float | None, max_tokens: int | None, *, left_out: bool) -> None:
        """Remember what the steps after it depend on."""
        if loss is not None:
            self._losses.note(loss)
        self._lowered = max_tokens
        self.bad_numbers.left_out += left_out

    def _stop(self, told: Interrupted) -> None:
        """Save the last step that was done, unless it is, and leave."""
        step = self._reached
        if self.saves and step and self.saves.last != step:
            self.saves.begin(step, self._owed)
        self._tell_saved(wait=True)
        where = f"after step {step}, which is saved" if self.saves and step else f"after step {step}"
        fix = "the same command goes on from there" if self.saves and step else "the same command begins anew"
        stopped = Interrupted(told.exit_code - 128, where, fix=fix)
        self._tell(Ended(step, str(stopped).partition("\n")[0], False))
        raise stopped from None

    def _step(self, step: int) -> Stepped:
        batch = [self.bank.prompted(replace(s, adapter_slot=self.slot)) for s in self.batches.of_step(step)]
        warnings: list[Warned] = []

        def warn(what: str, rows: Sequence[str] = ()) -> None:
            warnings.append(Warned(step, what, list(rows)))
            self._tell(warnings[-1])

        gradient = self._gradient()
        summed, forests = gradient.of(
            batch,
            seed=derived_seed(self.seed, "dropout", step),
            lowered=lambda why, tokens: warn(f"{why}; from here on a forest has at most {tokens}"),
        )
        weight = sum(forest.edges.total_weight for forest in forests)
        if not weight:
            raise RunError(
                f"step {step}: no sample has a token to train on. Its rows: {rows_of(batch)}", fix="look at these rows"
            )
        loss, norm = summed / weight, self._scale(weight)
        rate, left_out = self.rate(step), None
        if not (math.isfinite(loss) and math.isfinite(norm)):
            left_out = self._leave_out(step, loss, norm, gradient, batch, warn)
        else:
            limit = self._losses.limit()
            if limit is not None and loss > limit:
                worst = worst_rows(self.bank, self.slot, batch)
                warn(f"the loss {loss:.4f} is out of line, above {limit:.4f}; the rows of the highest", worst)
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["lr_factor"]
            self.optimizer.step()
        return Stepped(
            step=step,
            time=time.time(),
            loss=None if left_out else loss,
            lr=rate,
            grad_norm=None if left_out else norm,
            samples=len(batch),
            tokens_logical=sum(forest.logical_tokens for forest in forests),
            tokens_executed=sum(len(forest) for forest in forests),
            tokens_trained=sum(forest.trained_tokens for forest in forests),
            peak_memory_bytes=self.room.peak.bytes(),
            max_tokens=gradient.max_tokens if gradient.max_tokens < self.max_tokens else None,
            left_out=left_out,
            warnings=[str(warned) for warned in warnings] or None,
        )

    def _gradient(self) -> Gradient:
        return Gradient(
            bank=self.bank,
            slot=self.slot,
            max_tokens=min(self.max_tokens, self._lowered or self.max_tokens),
            recompute=self.recompute,
            offload=self.offload,
            room=self.room,
        )

    def _scale(self, weight: float) -> float:
        """Divide the gradients by `weight` and clip them; their L2 norm before clipping."""
        parameters = [parameter for _, parameter in self.bank.adapters[self.slot].named_parameters()]
        for parameter in parameters:
            if parameter.grad is not None:
                parameter.grad /= weight
        return float(nn.utils.clip_grad_norm_(parameters, self.max_grad_norm or math.inf))

    def _leave_out(
        self,
        step: int,
        loss: float,
        norm: float,
        gradient: Gradient,
        batch: Sequence[TokenSequence],
        warn: Callable[[str, Sequence[str]], None],
    ) -> str:
        """Find the rows at fault, and go on without the step where that is allowed; says how."""
        guilty = rows_at_fault(gradient, batch)
        why = self.bad_numbers.judge(step, loss, norm, blame(guilty, batch))
        how = "its update is not made" if self.bad_numbers.action == "skip" else self._roll_back(step)
        warn(f"{why}; {how}", ())
        return how

    def _roll_back(self, step: int) -> str:
        """Put back what the newest checkpoint of those that are due has; a signal's or the best would be by chance."""
        anchor = (step - 1) // self.save_every * self.save_every if self.save_every else 0
        if not (self.restore and anchor):
            return "there is no checkpoint yet to roll back to, and its update is not made"
        self._tell_saved(wait=True)
        self.restore(anchor)
        return f"rolled back to step {anchor}; the batches since are passed over"

    def _measure(self, step: int) -> Mapping[str, float] | None:
        """The figures of the held-out rows."""
        if self.evaluate is None:
            return None
        try:
            metrics = self.evaluate()
        except DataError as error:
            raise RunError(f"after step {step} {error.what}", fix=error.fix) from None
        for name, figure in metrics.items():
            if not math.isfinite(figure):
                raise RunError(f"after step {step} the held-out {name} is {figure}", fix="lower train.learning_rate")
        return metrics

    def _tell_saved(self, *, wait: bool = False) -> None:
        for event in self.saves.take(wait=wait) if self.saves else ():
            self._tell(event)

    def _tell(self, event: Event) -> None:
        for subscriber in self.subscribers:
            subscriber(event)
