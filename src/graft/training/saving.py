"""Checkpoints written while training goes on."""

from collections.abc import Callable
from pathlib import Path
from threading import Thread

from graft.training.events import Saved, Stepped

Snapshot = Callable[[int, Stepped | None], Callable[[], Path]]
"""Copies what the checkpoint after a step holds; returns what writes it and gives its folder. With a record: the step
is owed its held-out loss."""


class Saves:
    """One checkpoint at a time is written by a thread. What goes wrong there is raised where it is asked for next."""

    def __init__(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._thread: Thread | None = None
        self._outcome: Saved | BaseException | None = None  # of the thread; read when it has ended
        self._written: list[Saved] = []
        self.last = 0
        """The step whose checkpoint was begun last."""

    def begin(self, step: int, owed: Stepped | None = None) -> None:
        """Write the checkpoint after `step`, when the one before stands."""
        self._join()
        write = self._snapshot(step, owed)
        self.last = step
        self._thread = Thread(target=self._run, args=(step, write), name=f"checkpoint {step}", daemon=True)
        self._thread.start()

    def _run(self, step: int, write: Callable[[], Path]) -> None:
        try:
            self._outcome = Saved(step, write())
        except BaseException as error:  # of a thread: it is raised in the one that trains
            self._outcome = error

    def take(self, *, wait: bool = False) -> list[Saved]:
        """The checkpoints that stand and were not taken yet.

        Args:
            wait: for the one that is being written.

        Raises:
            RunError: one could not be written.
        """
        if wait or (self._thread is not None and not self._thread.is_alive()):
            self._join()
        written, self._written = self._written, []
        return written

    def settle(self) -> None:
        """Wait for the one that is being written, whatever becomes of it."""
        if self._thread is not None:
            self._thread.join()

    def _join(self) -> None:
        self.settle()
        outcome, self._outcome, self._thread = self._outcome, None, None
        if isinstance(outcome, Saved):
            self._written.append(outcome)
        elif outcome is not None:
            raise outcome
