"""Which adapter slot runs which part of the stream now, and where its virtual tokens stand."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from torch import Tensor

from graft.records import Route


@dataclass(frozen=True)
class Virtual:
    """The virtual tokens of a stream: token number `numbers` (V,) of its adapter stands at `places` (V,)."""

    places: Tensor
    numbers: Tensor


class Switch:
    """What every wrapped module of a bank looks at. With no route, the base alone answers."""

    def __init__(self) -> None:
        self.routes: list[Route] = []
        self.virtual: Virtual | None = None

    @contextmanager
    def turned_to(self, routes: list[Route]) -> Iterator[None]:
        before, self.routes = self.routes, routes
        try:
            yield
        finally:  # recomputed activations may stop half way, by an exception
            self.routes = before

    def meet(self, ids: Tensor) -> None:
        """Take note of the virtual tokens of a stream (1, T): token i has the id -1 - i."""
        places = (ids[0] < 0).nonzero()[:, 0]
        self.virtual = Virtual(places, -1 - ids[0, places]) if len(places) else None
