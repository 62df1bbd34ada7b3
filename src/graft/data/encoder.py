"""Conversations -> a corpus: what is above the cutoff is left out, cut or refused, and counted."""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from graft.data.codec import Codec
from graft.data.corpus import Corpus, CorpusBuilder
from graft.data.encode import encode_each
from graft.data.keys import content_key
from graft.data.template import Template
from graft.errors import DataError
from graft.records import Conversation, Source, TokenSequence

TooLong = Literal["drop", "cut", "error"]
Look = Callable[[Conversation, Sequence[TokenSequence]], None]
_BETWEEN_SEARCHES = 100_000  # objects, of a few thousand rows
_SHOWN = 5  # rows named before "and n more"


@dataclass(frozen=True)
class Long:
    """A sample above the cutoff. A row is several samples where the template asks for it.

    Args:
        row: the number of its row.
        tokens: of the whole sample.
        cut: a part of it is among the samples; else it is left out.
    """

    row: int
    source: Source
    tokens: int
    cut: bool

    def refusal(self, cutoff: int) -> DataError:
        """What data.too_long=error says of it."""
        what = f"{self.source}: {self.tokens} tokens are more than data.cutoff {cutoff}"
        return DataError(what, fix=f"raise data.cutoff to {self.tokens}, or set data.too_long to drop")


@dataclass(frozen=True)
class Encoded:
    """Samples ready for training, and what did not fit.

    Args:
        rows: conversations that were given.
        notes: how they were read, for people.
    """

    samples: Corpus
    long: Sequence[Long]
    rows: int
    cutoff: int
    notes: Sequence[str] = ()

    def part(self, chosen: NDArray[np.bool_], name: str) -> "Encoded":
        """What comes from the rows that are chosen (R,).

        Args:
            name: what messages call a row, such as "held-out row".

        Raises:
            DataError: nothing of it fits the cutoff, or none of its tokens is trained.
        """
        samples = self.samples.take_where(chosen[self.samples.rows])
        part = Encoded(samples, [long for long in self.long if chosen[long.row]], int(chosen.sum()), self.cutoff)
        part.check(name)
        return part

    def check(self, name: str = "row") -> None:
        """Raise a DataError if nothing fits the cutoff, or no token is trained; `name` is what messages call a row."""
        if not self.samples:
            longest = max(self.long, key=lambda long: long.tokens)
            first = self.long[0]
            what = (
                f"no {name} fits data.cutoff {self.cutoff}: {first.source} has {first.tokens} tokens, prompt included"
            )
            raise DataError(what, fix=f"set data.cutoff to {longest.tokens} to keep every {name}")
        if not self.samples.any_trained():
            what = f"{self.samples[0].source}: no {name} has a token to train on"
            raise DataError(what, fix="give rows with answers")

    @property
    def left_out(self) -> int:
        return sum(not long.cut for long in self.long)

    def report(self) -> str:
        """What was left out or cut, and the cutoff that would keep it; "" where everything fits."""
        if not self.long:
            return ""
        rows = ", ".join(str(long.source.line) for long in self.long[:_SHOWN])
        more = f" and {len(self.long) - _SHOWN} more" if len(self.long) > _SHOWN else ""
        return (
            f"{len(self.long)} of {self.rows} rows are longer than data.cutoff "
            f"{self.cutoff}: {len(self.long) - self.left_out} cut, {self.left_out} left out "
            f"({self.long[0].source.path}, lines {rows}{more}); "
            f"data.cutoff {max(long.tokens for long in self.long)} keeps them all whole"
        )


@dataclass
class Encoder:
    """Encodes conversations as they come, and keeps only their samples.

    A document of plain text has no answer to lose: a long one becomes as many samples as it takes.

    Args:
        prompt_weight: share in the loss of what the model is given.
        builder: takes the samples.
        look: is shown each conversation with its samples, however long.
        notes: what is to be said of how the rows were read.
    """

    template: Template
    codec: Codec
    cutoff: int
    too_long: TooLong
    prompt_weight: float = 0.0
    builder: CorpusBuilder = field(default_factory=CorpusBuilder)
    look: Look | None = None
    notes: list[str] = field(default_factory=list)
    _rows: int = 0
    _long: list[Long] = field(default_factory=list)

    def add(self, conversations: Iterable[Conversation], *, origin: int = 0) -> None:
        """Encode these.

        Args:
            origin: the number of the source that they come from.

        Raises:
            DataError: `too_long` is error and a sample is, or the template has no place for something.
        """
        with _seldom_searched():
            for conversation, samples in encode_each(conversations, self.template, self.codec, self.prompt_weight):
                if self.look:
                    self.look(conversation, samples)
                self.take(conversation, samples, origin=origin)

    def take(self, conversation: Conversation, samples: Sequence[TokenSequence], *, origin: int = 0) -> None:
        """Add a conversation that is encoded, however long its samples are.

        Raises:
            DataError: `too_long` is error and a sample is.
        """
        kept = [kept for sample in samples for kept in self._within_cutoff(conversation, sample)]
        self.builder.append_row(kept, key=content_key(conversation), origin=origin)
        self._rows += 1

    def finish(self) -> Encoded:
        return Encoded(self.builder.finish(), self._long, self._rows, self.cutoff, self.notes)

    def _within_cutoff(self, conversation: Conversation, sample: TokenSequence) -> Iterator[TokenSequence]:
        if len(sample) <= self.cutoff:
            yield sample
        elif conversation.messages[0].role == "text":
            yield from _stretches(sample, self.cutoff, self.codec)
        elif self.too_long == "error":
            raise Long(self._rows, conversation.source, len(sample), cut=False).refusal(self.cutoff)
        else:
            cut = _cut(sample, self.cutoff)
            keeps = self.too_long == "cut" and cut.trained_tokens > 0
            self._long.append(Long(self._rows, conversation.source, len(sample), keeps))
            if keeps:
                yield cut


def encode_all(conversations: Iterable[Conversation], template: Template, codec: Codec, **settings: Any) -> Encoded:
    """Encode every conversation, in memory; see `Encoder` for the settings.

    Raises:
        DataError: as `Encoder.add` and `Encoded.check`.
    """
    encoder = Encoder(template, codec, **settings)
    encoder.add(conversations)
    encoded = encoder.finish()
    encoded.check()
    return encoded


@contextmanager
def _seldom_searched() -> Iterator[None]:
    """Rows make many short-lived objects and no cycles, so Python's searches for cyclic garbage are in vain: they are
    made seldom, and without the million objects of the libraries, which take 0.25 s."""
    before = gc.get_threshold()
    gc.freeze()
    gc.set_threshold(_BETWEEN_SEARCHES, *before[1:])
    try:
        yield
    finally:
        gc.freeze()  # what the rows left behind is searched when all is, not at the next object
        gc.unfreeze()
        gc.set_threshold(*before)


def _cut(sequence: TokenSequence, cutoff: int) -> TokenSequence:
    shares = sequence.shares and sequence.shares[:cutoff]
    return replace(sequence, ids=sequence.ids[:cutoff], trained=sequence.trained[:cutoff], shares=shares)


def _stretches(sequence: TokenSequence, cutoff: int, codec: Codec) -> Iterator[TokenSequence]:
    """A document in samples of `cutoff` tokens, each with BOS where the model has one."""
    opening = () if codec.bos_id is None else (codec.bos_id,)
    ids = sequence.ids[len(opening) :]
    room = cutoff - len(opening)
    for start in range(0, len(ids), room):
        stretch = opening + ids[start : start + room]
        if len(stretch) > 1:
            yield replace(sequence, ids=stretch, trained=(False,) + (True,) * (len(stretch) - 1), shares=None)
