"""Whether a forest fits memory, told before it is run: a system that is out of memory kills and does not ask."""

import gc
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from graft.runtime import PeakMemory, free_memory, give_memory_back, resident_memory

_MARGIN = 1.25
"""Of what is predicted. A forest of long samples takes a little more for each token than one of short ones."""

_RESERVE = 64 << 20
"""Bytes left to all that is no forest: the optimizer's step, the copy for a checkpoint."""


class Room:
    """What a forest takes, from the largest that was measured, against what is free.

    On CUDA nothing is predicted: an allocation that fails there is an error that can be caught. Nor is anything where
    the system does not tell the peak of a forest.

    Args:
        free: gives the bytes that may still be taken.
    """

    def __init__(self, device: torch.device, free: Callable[[], int] | None = None) -> None:
        self.device = device
        self.peak = PeakMemory(device)
        self.watches = device.type == "cpu" and self.peak.has_laps
        self._free = free or (lambda: free_memory(device))
        self.tokens = 0
        """Of the largest forest that was measured."""
        self._taken = 0  # bytes, by that one

    def shortage(self, tokens: int) -> str:
        """Why a forest of so many tokens does not fit; "" where it does, or none was measured yet."""
        if not self.watches or not self.tokens:
            return ""
        needed = self.needed(tokens) + _RESERVE
        if needed <= self._free():
            return ""
        self.collect()  # what glibc keeps counts as used, and can be had
        free = self._free()
        return f"it needs {needed / 1e6:,.0f} MB, and {free / 1e6:,.0f} MB are free" if needed > free else ""

    def needed(self, tokens: int) -> int:
        """Bytes that such a forest is predicted to take. Less than linear in truth, as something is taken by any."""
        return int(_MARGIN * self._taken * tokens / self.tokens) if self.tokens else 0

    @contextmanager
    def measured(self, tokens: int) -> Iterator[None]:
        """Within this block a forest of so many tokens is run; the first ones, and larger ones, are measured."""
        if not self.watches or tokens <= self.tokens:
            yield
            return
        self.collect()  # or the forest would take what another left, unseen
        before = resident_memory()
        self.peak.lap()
        yield
        self.tokens, self._taken = tokens, max(self._taken, self.peak.lap() - before)

    def collect(self) -> None:
        """Give back to the system or the device whatever is kept for nothing."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        else:
            give_memory_back()
