"""`graft data check`: what is wrong with rows, before anything is trained on them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

import numpy as np

from graft.commands.assembly import check_room, model_folder, open_tokenizer
from graft.commands.samples import Rehearsal, Samples, data_paths, prompt_weight_of, read_samples
from graft.commands.steering import check_steering
from graft.config import Config
from graft.data import Template, hold_out, load_template, read_rows
from graft.data.chat import ChatTemplate
from graft.data.checks import (
    CHECKS,
    FOREIGN,
    SAID,
    Alphabet,
    Cleaner,
    Finding,
    Seen,
    Subject,
    Survey,
    Terms,
    examine,
    find,
)
from graft.data.formats import read_each, recognise
from graft.data.spill import spill_folder
from graft.data.write import check_writable, write_rows
from graft.errors import ConfigError, DataError, GraftError, nearest
from graft.model import Tokenizer, positions_in
from graft.records import Conversation, TokenSequence
from graft.runtime import say_on_stderr
from graft.sections import DataConfig
from graft.training import Batches

Say = Callable[[str], None]


class Keep(Protocol):
    """Takes a conversation and its samples, however long; `origin` is the number of the path that it comes from."""

    def __call__(self, conversation: Conversation, samples: Sequence[TokenSequence], *, origin: int) -> None: ...


@dataclass(frozen=True)
class Copy:
    """A cleaned copy.

    Args:
        cleaner: knows what was left out.
        obstacle: why `graft train` would refuse it; None where it would not.
    """

    out: str
    cleaner: Cleaner
    obstacle: GraftError | None = None

    def as_json(self) -> dict[str, Any]:
        counts = {"rows": self.cleaner.rows, "dropped": self.cleaner.dropped, "mended": self.cleaner.mended}
        return {"out": self.out, **counts, **_obstacle_json(self.obstacle)}


@dataclass(frozen=True)
class Checked:
    """What the checks found.

    Args:
        rows: that were checked, those to measure on included.
        obstacle: why `graft train` would refuse them, where no finding says so.
        copy: cleaned, where one was asked for.
    """

    rows: int
    findings: list[Finding]
    obstacle: GraftError | None = None
    copy: Copy | None = None

    @property
    def refused(self) -> bool:
        """Whether `graft train` would not begin with these rows."""
        return self.obstacle is not None or any(finding.severity == "refused" for finding in self.findings)

    @property
    def passed(self) -> bool:
        """Whether `graft train` would begin with the copy, or with the rows where there is none."""
        return self.copy.obstacle is None if self.copy else not self.refused

    def as_json(self) -> dict[str, Any]:
        findings = [finding.as_json() for finding in self.findings]
        found = {"rows": self.rows, "refused": self.refused, **_obstacle_json(self.obstacle), "findings": findings}
        return {**found, "fixed": self.copy.as_json()} if self.copy else found


def _obstacle_json(obstacle: GraftError | None) -> dict[str, Any]:
    return {"obstacle": {"what": obstacle.what, "fix": obstacle.fix}} if obstacle else {}


def check(
    config: Config,
    *,
    held_out: str | None = None,
    fix: Path | None = None,
    drop: Sequence[str] = (),
    say: Say = say_on_stderr,
) -> Checked:
    """Run every check on the rows of `data.path`.

    Args:
        held_out: data of their own to measure on; unless given, the rows that `graft train` would hold out.
        fix: where to write a cleaned copy.
        drop: names of checks whose rows the copy leaves out as well.

    Raises:
        GraftError: a file cannot be read at all, or the copy cannot be written.
    """
    for name in drop:
        if name not in CHECKS:
            hint = f"did you mean {alike}? " if (alike := nearest(name, CHECKS)) else ""
            raise ConfigError(f"--drop {name}: no check is called so", fix=f"{hint}There are {', '.join(CHECKS)}")
    if drop and not fix:
        raise ConfigError("--drop says what a cleaned copy leaves out", fix="say where to write it with --fix")
    if fix:
        check_writable(fix, option="--fix")
        _check_one_format(config.data)
    tokenizer = open_tokenizer(config.model)
    template = load_template(config.data.template, tokenizer.chat_template)
    with TemporaryDirectory(prefix="check-", dir=spill_folder()) as folder:
        rehearsal = Rehearsal(config.data, template, tokenizer, Path(folder))
        survey = Survey(_terms(config, template, tokenizer))
        for row in seen_rows(config.data, template, tokenizer, say, rehearsal.take):
            survey.add(row)
        if held_out is not None:
            foreign = config.data.model_copy(update={"path": held_out})
            for row in seen_rows(foreign, template, tokenizer, say):
                survey.add(row, foreign=True)
        name = template_name(config, tokenizer)
        say(f"checked with the tokenizer of {config.model.path}, the template {name}, data.cutoff {config.data.cutoff}")
        split = partial(_split, settings=config.data)
        subject = split(survey.finish())
        findings = find(subject)
        checked = Checked(len(subject), findings)
        if not checked.refused:  # else the run would not come so far
            checked = replace(checked, obstacle=_obstacle(config, rehearsal.samples))
        if fix is None:
            return checked
        cleaner = Cleaner(subject, findings, drop=drop, split=split)
        if not cleaner.rows:
            fix_them = "see what the findings say, and mend the rows"
            raise DataError("no row would be left in the cleaned copy", fix=fix_them)
        again = (row for path in data_paths(config.data) for row in read_rows(path))
        write_rows(fix, cleaner.fields(again), option="--fix")
        update: dict[str, Any] = {"path": str(fix)} | ({} if isinstance(config.data.path, str) else {"mix": []})
        of_copy = config.model_copy(update={"data": config.data.model_copy(update=update)})
        obstacle = _obstacle(of_copy, partial(read_samples, of_copy.data, template, tokenizer))
        return replace(checked, copy=Copy(str(fix), cleaner, obstacle))


def seen_rows(
    settings: DataConfig, template: Template, tokenizer: Tokenizer, say: Say, keep: Keep | None = None
) -> Iterator[Seen]:
    """Every row of the data with what becomes of it; `keep` is given those that could be encoded."""
    for number, path in enumerate(data_paths(settings)):
        yield from examine(
            read_each(read_rows(path), settings.format, train_on=settings.train_on, say=say),
            template,
            tokenizer,
            cutoff=settings.cutoff,
            prompt_weight=prompt_weight_of(settings),
            keep=partial(keep, origin=number) if keep else None,
        )


def _obstacle(config: Config, samples_of: Callable[[], Samples]) -> GraftError | None:
    """Why `graft train` would refuse these samples; None where it would not. What an adapter adds to each is unknown.

    Args:
        samples_of: gives them, or raises what train would.
    """
    try:
        samples = samples_of()
        check_steering(config, len(samples.held_out))
        folder = model_folder(config.model.path)
        if room := positions_in(folder):
            for part in filter(None, (samples.train, samples.held_out)):
                check_room(folder, room, part)
        settings = config.train
        Batches(
            samples.train,
            global_batch=settings.global_batch,
            epochs=settings.epochs,
            max_steps=settings.max_steps,
            seed=settings.seed,
        ).check_fit(settings.max_tokens)
    except GraftError as error:
        return error
    return None


def _split(subject: Subject, settings: DataConfig) -> Subject:
    """The rows, with those marked that are measured on: those of a file of their own, or else what `graft train` would
    hold out."""
    if (foreign := subject.has(FOREIGN)).any():
        return replace(subject, held_out=foreign)
    said = subject.has(SAID)
    held_out = np.zeros(len(subject), dtype=bool)
    with suppress(DataError):  # that train refuses these rows is told apart; all the other checks still tell
        held_out[said] = hold_out(subject.facts["key"][said], held_out=settings.held_out, seed=settings.seed)
    return replace(subject, held_out=held_out)


def _check_one_format(settings: DataConfig) -> None:
    """Raise a ConfigError if the rows of several paths are of several formats, which one copy cannot be read as."""
    if settings.format != "auto" or len(data_paths(settings)) == 1:
        return
    names = {path: recognise(next(read_rows(path))) for path in data_paths(settings)}
    if len(set(names.values())) > 1:
        named = ", ".join(f"{path} is {name}" for path, name in names.items())
        raise ConfigError(f"--fix writes one file of one format, and {named}", fix="clean one after the other")


def _terms(config: Config, template: Template, tokenizer: Tokenizer) -> Terms:
    """What the rows are held against."""
    alphabet = Alphabet(lambda text: tokenizer.decode(tokenizer.encode(text, first=False)))
    name, mismatch = template_name(config, tokenizer), _mismatch(config, template, tokenizer)
    return Terms(config.data.cutoff, config.data.too_long, name, mismatch, marks_of(tokenizer), alphabet)


def template_name(config: Config, tokenizer: Tokenizer) -> str:
    if config.data.template != "auto":
        return config.data.template
    return "of the model" if tokenizer.chat_template else "alpaca, as the model brings none"


def _mismatch(config: Config, template: Template, tokenizer: Tokenizer) -> str:
    own = tokenizer.chat_template
    if own is None or template.content() == ChatTemplate(own).content():
        return ""
    folder = model_folder(config.model.path)
    return f"data.template {config.data.template} is not the chat template that {folder} was taught with and brings"


def marks_of(tokenizer: Tokenizer) -> frozenset[str]:
    """What templates write around words, and rows should not."""
    return frozenset(filter(None, tokenizer.special_tokens)) | _MARKS


# fmt: off
_MARKS = frozenset((
    "<|im_start|>", "<|im_end|>", "[INST]", "[/INST]", "<<SYS>>", "<|start_header_id|>", "<|eot_id|>", "<|endoftext|>",
    "<start_of_turn>", "<end_of_turn>", "<|assistant|>", "### Instruction:", "### Response:",
))
# fmt: on
"""Those of the field's templates, whichever the model has."""
