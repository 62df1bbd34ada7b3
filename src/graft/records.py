"""One frozen record for each arrow of the way that data takes. Built valid, or not at all.

    file -> Row -> Conversation -> pieces -> TokenSequence -> Forest

T = tokens in the stream, S = segments, E = edges.
"""

import bisect
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from graft.errors import RowFault

Role = Literal["system", "user", "assistant", "tool", "text"]
"""Whose words a message has. tool: what a tool answered (an observation); text: nobody's, a document to learn from."""


@dataclass(frozen=True, slots=True)
class Source:
    """Where a row stands: the file as the user named it, and the line on which the row begins, from 1 (in a Parquet
    file the row's number)."""

    path: str
    line: int

    def __str__(self) -> str:
        return f"{self.path}:{self.line}"


@dataclass(frozen=True, slots=True)
class Row:
    """One object of a data file, as it was read."""

    source: Source
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A function that the model asks to be called. `id` is how the data name the call, "" where they do not."""

    name: str
    arguments: Mapping[str, Any]
    id: str = ""


@dataclass(frozen=True, slots=True)
class Message:
    """What one party says.

    Args:
        trained: True, the model learns to say this; False, it never does; None, it is context, which is learned with
            `data.prompt_loss_weight`.
        context: material that the message refers to, kept apart because templates give it a place of its own
            (Alpaca's `input`, Dolly's `context`); "" where there is none.
        tool_calls: what the assistant asks for, after its words or instead of them.
        call_id: of a tool's answer: the call that it answers; "" for the next one in order.
    """

    role: Role
    content: str
    trained: bool | None = None
    context: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    call_id: str = ""


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages in order, and where they came from.

    Args:
        tools: definitions of the functions that the model may ask for, as JSON objects.
        weight: share of each of its trained tokens in the loss.

    Raises:
        RowFault: no model could be asked so; says which message is at fault.
    """

    messages: tuple[Message, ...]
    source: Source
    tools: tuple[Mapping[str, Any], ...] = ()
    weight: float = 1.0

    def __post_init__(self) -> None:
        if not self.messages:
            raise RowFault("there is no message", "empty")
        if not (0 < self.weight < math.inf):
            raise RowFault(f"the weight {self.weight:g} is not above 0")
        before: Message | None = None
        for number, message in enumerate(self.messages, start=1):
            named = f"message {number} ({message.role})"
            if not message.content.strip() and not message.tool_calls and message.role != "tool":
                raise RowFault(f"{named} is empty", "empty")
            if message.role == "system" and before:
                what = f"{named} comes late: a system message is the first, and there is one at most"
                raise RowFault(what, "roles")
            if message.role == "text" and len(self.messages) > 1:
                raise RowFault(f"{named} is no part of a conversation", "roles")
            if message.role == "tool" and not (before and (before.tool_calls or before.role == "tool")):
                what = f"{named} answers no call: it must follow an assistant message that calls a tool"
                raise RowFault(what, "roles")
            if message.tool_calls and message.role != "assistant":
                raise RowFault(f"{named} calls a tool, which only the assistant does", "calls")
            before = message


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of rendered text, trained on as a whole or not at all unless it has `marks`.

    A template renders a conversation to pieces; each is encoded by itself, so the ids of a prompt are the same in
    training as in serving, whatever follows it.

    Args:
        trained: as in `Message`.
        ends_turn: the end token follows this piece, trained as the piece is.
        special: the text spells a special token of the tokenizer, and means it. No other piece can become one.
        marks: where it is not all trained alike: so many characters in a row, and whether they are trained. `trained`
            is then how what ends the last message in it is.
    """

    text: str
    trained: bool | None
    ends_turn: bool = False
    special: bool = False
    marks: tuple[tuple[int, bool | None], ...] = ()


@dataclass(frozen=True, slots=True)
class TokenSequence:
    """The tokens of one sample.

    Args:
        ids: token ids, beginning with BOS where the model has one.
        trained: for each token, whether the model learns to produce it. The first token has no source to be
            produced from and is never trained.
        adapter_slot: which adapter answers; None for the base alone.
        weight: share of each trained token in the loss.
        shares: for each token a factor to `weight`, above 0 where it is trained; None for 1.
    """

    ids: tuple[int, ...]
    trained: tuple[bool, ...]
    source: Source | None = None
    adapter_slot: int | None = 0
    weight: float = 1.0
    shares: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        assert len(self.ids) == len(self.trained) > 0, "ids and mask are built together"
        assert self.shares is None or len(self.shares) == len(self.ids), "and so are shares"
        assert not self.trained[0], "the first token cannot be predicted"

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def trained_tokens(self) -> int:
        return self.trained.count(True)


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens [start, stop) of the stream. They attend to their ancestors' tokens and, causally, to their own.

    Args:
        parent: index of the parent segment, always smaller than the own one; None for a root.
        depth: position id of the first token, which is the number of tokens above it on its path.
    """

    start: int
    stop: int
    parent: int | None
    depth: int
    adapter_slot: int | None

    def __len__(self) -> int:
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Edges:
    """What the loss is a sum over. `sources` (E,) index the stream, `targets` (E,) are ids, `weights` (E,) float64."""

    sources: Tensor
    targets: Tensor
    weights: Tensor

    def __len__(self) -> int:
        return len(self.sources)

    @property
    def distinct_sources(self) -> Tensor:
        """The places in the stream that an edge leaves (N,), ascending."""
        distinct: Tensor = self.sources.unique()
        return distinct

    @property
    def total_weight(self) -> float:
        return float(self.weights.sum())


@dataclass(frozen=True, slots=True)
class Forest:
    """Samples laid out in one stream.

    Args:
        ids: token ids (T,).
        positions: depth of each token on its own path (T,).
        segments: in stream order, without gaps, depth first: descendants stand right behind their ancestor.
        edges: every (source, target) with its weight.
        ends: for each sequence, in the order given, where in the stream its last token stands.
        logical_tokens: tokens of these sequences before sharing; `len(ids)` are executed.
        trained_tokens: trained tokens of these sequences before sharing.
    """

    ids: Tensor
    positions: Tensor
    segments: tuple[Segment, ...]
    edges: Edges
    ends: tuple[int, ...]
    logical_tokens: int
    trained_tokens: int

    def __post_init__(self) -> None:
        assert len(self.ids) == len(self.positions) == (self.segments[-1].stop if self.segments else 0)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def samples(self) -> int:
        return len(self.ends)

    def path(self, segment: int) -> list[int]:
        """Indices of the ancestors of `segment`, root first, and itself."""
        path = [segment]
        while (parent := self.segments[path[-1]].parent) is not None:
            path.append(parent)
        return path[::-1]

    def trace(self, sample: int) -> list[int]:
        """Where in the stream the tokens of a sample stand, first to last."""
        end = self.ends[sample]
        last = bisect.bisect_right(self.segments, end, key=lambda segment: segment.start) - 1
        above = [place for i in self.path(last)[:-1] for place in range(self.segments[i].start, self.segments[i].stop)]
        return above + list(range(self.segments[last].start, end + 1))

    def routes(self) -> list["Route"]:
        """Which adapter slot runs which part of the stream."""
        return merge_routes(Route(s.adapter_slot, s.start, s.stop) for s in self.segments)


@dataclass(frozen=True, slots=True)
class Route:
    """Tokens [start, stop) of a stream run through this adapter slot; None is the base alone."""

    slot: int | None
    start: int
    stop: int


def merge_routes(routes: Iterable[Route]) -> list[Route]:
    """Neighbouring routes of one slot as one."""
    merged: list[Route] = []
    for route in routes:
        if merged and merged[-1].slot == route.slot and merged[-1].stop == route.start:
            merged[-1] = Route(route.slot, merged[-1].start, route.stop)
        else:
            merged.append(route)
    return merged


def edges_of(triples: Sequence[tuple[int, int, float]]) -> Edges:
    """Edges from (source, target, weight) triples."""
    sources, targets, weights = zip(*triples, strict=True) if triples else ((), (), ())
    return Edges(
        torch.tensor(sources, dtype=torch.long),
        torch.tensor(targets, dtype=torch.long),
        torch.tensor(weights, dtype=torch.float64),
    )
