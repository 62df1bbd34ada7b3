"""SIGINT and SIGTERM: work stops where nothing is lost; a second one stops it at once."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any

from graft.errors import Interrupted

_HEARD = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """A context that hears both signals, and puts back who heard them before when it ends.

    The first raises `Interrupted` where it comes; in a block of `deferred`, at the place that asks for it. A signal
    that the process was told to ignore stays ignored. Python hears signals in its main thread only: in others this
    context hears nothing.
    """

    def __init__(self) -> None:
        self._first = 0
        self._waits = False
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "StopSignals":
        if threading.current_thread() is threading.main_thread():
            for number in _HEARD:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._hear)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for number, before in self._before.items():
            signal.signal(number, before)
        self._before.clear()

    def _hear(self, number: int, frame: FrameType | None) -> None:
        if self._first:
            raise Interrupted(number, at_once=True)
        self._first = number
        if not self._waits:
            raise Interrupted(number)

    @property
    def heard(self) -> bool:
        """Whether a signal waits to be obeyed."""
        return bool(self._first)

    def check(self, where: str = "", *, fix: str = "") -> None:
        """Raise `Interrupted` if a signal was heard, saying how far the work got."""
        if self._first:
            raise Interrupted(self._first, where, fix=fix)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Within this block the first signal waits until it is asked for, at the latest at the end of the outermost."""
        waited, self._waits = self._waits, True
        try:
            yield
        finally:
            self._waits = waited
        if not waited:
            self.check()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Within this part of a `deferred` block the first signal does not wait."""
        waited, self._waits = self._waits, False
        try:
            self.check()
            yield
        finally:
            self._waits = waited
