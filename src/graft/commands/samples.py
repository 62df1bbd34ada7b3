"""The data of a run: read, checked and encoded once, kept for the next run, and split."""

import hashlib
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graft.commands.assembly import check_positions
from graft.data import (
    Corpus,
    Encoded,
    Encoder,
    Template,
    content_hash,
    hold_out,
    read_conversations,
    read_rows,
)
from graft.data.cache import code_hash, recall, remember
from graft.data.checks import Watch
from graft.data.corpus import CorpusBuilder
from graft.data.keys import content_key
from graft.data.sources import find_files
from graft.data.split import mix_counts
from graft.errors import DataError
from graft.model import Base, Tokenizer
from graft.records import Conversation
from graft.runtime import cache_folder
from graft.sections import DataConfig

_ROOM = 3
"""Bytes on disk for a byte of data, at most: a token has 5, and 2 characters or more."""

_MOST_MIXED = 10**8
"""Samples of one epoch, whose numbers take 8 bytes each; more are a slip of a digit, not data."""


@dataclass(frozen=True)
class Samples:
    """A run's data, encoded.

    Args:
        too_long: every row above the cutoff, as file:line.
        notes: how the rows were read, and what was left out or cut, for people.
    """

    train: Corpus
    held_out: Corpus
    too_long: list[str]
    notes: list[str]

    def digest(self) -> str:
        """Of the ids, and of which are trained, in order: other words, another template or tokenizer make another."""
        parts = [part.digest() if part else "" for part in (self.train, self.held_out)]
        return hashlib.sha256(" ".join(parts).encode()).hexdigest()

    def check_positions(self, base: Base, *, virtual_tokens: int) -> None:
        """Raise a DataError if a sample does not fit the positions of the base."""
        for part in (self.train, self.held_out):
            if part:
                check_positions(base, part, virtual_tokens=virtual_tokens)


def read_samples(settings: DataConfig, template: Template, tokenizer: Tokenizer) -> Samples:
    """The samples of `data.path`, those to measure on apart; the others as often as `data.mix` says.

    Raises:
        DataError: the checks that refuse data refuse these rows, or nothing fits.
    """
    return _divided(_encoded(settings, template, tokenizer), settings)


def _divided(encoded: Encoded, settings: DataConfig) -> Samples:
    """The samples to train on, as often as `data.mix` says, and those to measure on.

    Raises:
        DataError: one of these would have nothing.
    """
    chosen = hold_out(encoded.samples.keys, held_out=settings.held_out, seed=settings.seed)
    parts = {"training": encoded.part(~chosen, "training row")}
    if chosen.any():
        parts["held-out"] = encoded.part(chosen, "held-out row")
    train = parts["training"].samples
    if settings.mix:
        train = _mixed(settings, encoded, ~chosen, train)
    return Samples(
        train=train,
        held_out=parts["held-out"].samples if chosen.any() else Corpus.of([]),
        too_long=[str(long.source) for part in parts.values() for long in part.long],
        notes=[*encoded.notes, *(f"{name}: {part.report()}" for name, part in parts.items() if part.long)],
    )


class Rehearsal:
    """What `graft train` would make of rows that are checked: it is given each as it is encoded, and says what the run
    would be refused for.

    Args:
        folder: where the samples wait; it has to be empty, and is not needed once all is said.
    """

    def __init__(self, settings: DataConfig, template: Template, tokenizer: Tokenizer, folder: Path) -> None:
        self._settings = settings
        self._encoder = Encoder(
            template,
            tokenizer,
            cutoff=settings.cutoff,
            too_long="cut" if settings.too_long == "cut" else "drop",  # what error refuses is told at the end
            prompt_weight=prompt_weight_of(settings),
            builder=CorpusBuilder(folder),
        )
        self.take = self._encoder.take

    def samples(self) -> Samples:
        """The samples of the run; to be asked for once.

        Raises:
            DataError: the run would be refused for this.
        """
        encoded = self._encoder.finish()
        if self._settings.too_long == "error" and encoded.long:
            raise encoded.long[0].refusal(self._settings.cutoff)
        return _divided(encoded, self._settings)


def _mixed(settings: DataConfig, encoded: Encoded, chosen: NDArray[np.bool_], train: Corpus) -> Corpus:
    """The samples to train on, which come from the rows that are chosen (R,), as often as `data.mix` says.

    Raises:
        DataError: these are none, or too many.
    """
    shares = np.array(settings.mix)[encoded.samples.origins]
    if (wanted := float(shares[train.rows].sum())) > _MOST_MIXED:
        what = f"data.mix {settings.mix} makes {wanted:.3g} samples an epoch, and {_MOST_MIXED:,} are the most"
        raise DataError(what, fix="lower its numbers in proportion, and raise train.epochs to take all of them oftener")
    counts = np.zeros(len(shares), dtype=np.int64)
    counts[chosen] = mix_counts(shares[chosen], seed=settings.seed)
    mixed = train.take(np.repeat(np.arange(len(train), dtype=np.int32), counts[train.rows]))
    if not mixed:
        raise DataError(f"data.mix {settings.mix} takes no row to train on", fix="raise its numbers")
    return mixed


def _encoded(settings: DataConfig, template: Template, tokenizer: Tokenizer) -> Encoded:
    if not settings.cache or ".py:" in settings.format or not _has_room(settings):
        return _encode(settings, template, tokenizer, CorpusBuilder())
    key = {
        "data": [[path, [str(file) for file in find_files(path)], content_hash(path)] for path in data_paths(settings)],
        "tokenizer": tokenizer.fingerprint,
        "template": template.content(),
        "code": code_hash(),
        **settings.model_dump(include={"format", "train_on", "cutoff", "too_long"}),
        "prompt_weight": prompt_weight_of(settings),
    }
    return recall(key) or remember(key, lambda builder: _encode(settings, template, tokenizer, builder))


def _has_room(settings: DataConfig) -> bool:
    needed = _ROOM * sum(file.stat().st_size for path in data_paths(settings) for file in find_files(path))
    folder = cache_folder()
    existing = next(place for place in (folder, *folder.parents) if place.exists())
    return shutil.disk_usage(existing).free > needed


def _encode(settings: DataConfig, template: Template, tokenizer: Tokenizer, builder: CorpusBuilder) -> Encoded:
    watch = Watch(template, tokenizer, cutoff=settings.cutoff)
    encoder = Encoder(
        template,
        tokenizer,
        cutoff=settings.cutoff,
        too_long=settings.too_long,
        prompt_weight=prompt_weight_of(settings),
        builder=builder,
        look=watch.look,
    )
    for number, conversations in enumerate(_conversations(settings, encoder.notes.append)):
        encoder.add(conversations, origin=number)
    watch.refuse()
    return encoder.finish()


def _conversations(
    settings: DataConfig, say: Callable[[str], None] = lambda note: None
) -> Iterator[Iterator[Conversation]]:
    """What the rows of each path say, one at a time."""
    for path in data_paths(settings):
        yield read_conversations(read_rows(path), settings.format, train_on=settings.train_on, say=say)


def held_out_conversations(settings: DataConfig) -> list[Conversation]:
    """The rows that a run with these settings measures on."""
    keys = np.fromiter((content_key(said) for part in _conversations(settings) for said in part), dtype=np.uint64)
    chosen = hold_out(keys, held_out=settings.held_out, seed=settings.seed)
    every = (said for part in _conversations(settings) for said in part)
    return [conversation for conversation, held in zip(every, chosen, strict=True) if held]


def all_conversations(settings: DataConfig) -> list[Conversation]:
    """Every row."""
    return [conversation for part in _conversations(settings) for conversation in part]


def data_record(settings: DataConfig) -> dict[str, Any]:
    """Which rows a run trains on: enough to tell them from those that it holds out, wherever its adapter goes."""
    split_by = settings.model_dump(include={"format", "held_out", "seed", "cutoff"})
    hashes = [content_hash(path) for path in data_paths(settings)]
    whole = hashes[0] if len(hashes) == 1 else hashlib.sha256("\n".join(hashes).encode()).hexdigest()
    return {"path": settings.path, "sha256": whole, **split_by}


def data_paths(settings: DataConfig) -> list[str]:
    """What `data.path` names, one or several."""
    return [settings.path] if isinstance(settings.path, str) else settings.path


def named_data(settings: DataConfig) -> str:
    """The same, for messages."""
    return ", ".join(data_paths(settings))


def prompt_weight_of(settings: DataConfig) -> float:
    """Share in the loss of what the model is given."""
    return 1.0 if settings.train_on_inputs else settings.prompt_loss_weight
