"""`graft data check`: what is wrong with rows, before anything is trained on them."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from graft.commands.assembly import model_folder, open_tokenizer
from graft.commands.samples import data_paths, prompt_weight_of
from graft.config import Config
from graft.data import Template, hold_out, load_template, read_rows
from graft.data.chat import ChatTemplate
from graft.data.checks import CHECKS, SAID, Alphabet, Cleaner, Finding, Seen, Subject, Survey, Terms, examine, find
from graft.data.corpus import CorpusBuilder
from graft.data.formats import read_each
from graft.data.write import check_writable, write_rows
from graft.errors import ConfigError, DataError, RowFault, nearest
from graft.model import Tokenizer
from graft.records import Conversation, Row
from graft.runtime import say_on_stderr
from graft.sections import DataConfig

Say = Callable[[str], None]

READS = ("model", "data")


@dataclass(frozen=True)
class Checked:
    """What the checks found.

    Args:
        rows: that were checked, those to measure on included.
        cleaned: what was left out of the copy, where one was asked for.
        out: where it is.
    """

    rows: int
    findings: list[Finding]
    cleaned: Cleaner | None = None
    out: str = ""

    @property
    def refused(self) -> bool:
        """Whether `graft train` would not begin with these rows."""
        return any(finding.severity == "refused" for finding in self.findings)

    def as_json(self) -> dict[str, Any]:
        found = {"rows": self.rows, "refused": self.refused, "findings": [f.as_json() for f in self.findings]}
        if self.cleaned:
            copy = {"out": self.out, "rows": self.cleaned.rows}
            found["fixed"] = {**copy, "dropped": self.cleaned.dropped, "mended": self.cleaned.mended}
        return found


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
        check_writable(fix)
    tokenizer = open_tokenizer(config.model)
    template = load_template(config.data.template, tokenizer.chat_template)
    name = template_name(config, tokenizer)
    mismatch = _mismatch(config, template, tokenizer)
    alphabet = Alphabet(lambda text: tokenizer.decode(tokenizer.encode(text, first=False)))
    terms = Terms(config.data.cutoff, config.data.too_long, name, mismatch, marks_of(tokenizer), alphabet)
    survey = Survey(terms)
    for row in seen_rows(config.data, template, tokenizer, say):
        survey.add(row)
    if held_out is not None:
        foreign = config.data.model_copy(update={"path": held_out})
        for row in seen_rows(foreign, template, tokenizer, say):
            survey.add(row, foreign=True)
    say(f"checked with the tokenizer of {config.model.path}, the template {name}, data.cutoff {config.data.cutoff}")
    subject = survey.finish() if held_out is not None else _split(survey.finish(), config.data)
    findings = find(subject)
    if fix is None:
        return Checked(len(subject), findings)
    cleaner = Cleaner(subject, findings, drop=drop)
    if not cleaner.rows:
        raise DataError("no row would be left in the cleaned copy", fix="see what the findings say, and mend the rows")
    write_rows(fix, cleaner.fields(row for path in data_paths(config.data) for row in read_rows(path)))
    return Checked(len(subject), findings, cleaner, str(fix))


def seen_rows(
    settings: DataConfig, template: Template, tokenizer: Tokenizer, say: Say, keep: CorpusBuilder | None = None
) -> Iterator[Seen]:
    """Every row of the data with what becomes of it; `keep` takes the samples that are within the cutoff."""

    def read() -> Iterator[tuple[Row, Conversation | RowFault]]:
        for path in data_paths(settings):
            yield from read_each(read_rows(path), settings.format, train_on=settings.train_on, say=say)

    weight = prompt_weight_of(settings)
    return examine(read(), template, tokenizer, cutoff=settings.cutoff, prompt_weight=weight, keep=keep)


def _split(subject: Subject, settings: DataConfig) -> Subject:
    """The rows, with those marked that `graft train` would hold out."""
    said = subject.has(SAID)
    held_out = np.zeros(len(subject), dtype=bool)
    try:
        held_out[said] = hold_out(subject.facts["key"][said], held_out=settings.held_out, seed=settings.seed)
    except DataError:
        return subject  # too few to hold any out: all the other checks still tell
    return replace(subject, held_out=held_out)


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
