"""`graft data show`: every token of a row and what becomes of it, and the figures of a data set."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from graft.commands.assembly import open_tokenizer
from graft.commands.data import seen_rows, template_name
from graft.commands.samples import named_data, prompt_weight_of
from graft.config import Config
from graft.data import Template, load_template
from graft.data.checks import Seen, Survey, Terms
from graft.data.corpus import Corpus, CorpusBuilder
from graft.data.encode import encode_each
from graft.data.spill import spill_folder
from graft.data.statistics import Statistics, Tally
from graft.data.view import Cell, cells_of
from graft.errors import ConfigError
from graft.forest import planted_tokens
from graft.model import Tokenizer
from graft.records import Conversation, TokenSequence
from graft.report import ShownRow, write_data_report
from graft.runtime import say_on_stderr
from graft.training import Batches

Say = Callable[[str], None]

FEW, MANY = 3, 100
"""Rows that are shown in the terminal and in a page where none is asked for."""


@dataclass(frozen=True)
class Shown:
    """What there is to see.

    Args:
        html: where the page is; "" where none was asked for.
    """

    rows: list[ShownRow]
    statistics: Statistics
    html: str = ""

    def as_json(self) -> dict[str, Any]:
        return {
            "rows": [row.as_json() for row in self.rows],
            "statistics": self.statistics.as_json(),
            **({"html": self.html} if self.html else {}),
        }


def show(config: Config, *, numbers: Sequence[int] = (), html: Path | None = None, say: Say = say_on_stderr) -> Shown:
    """Rows of `data.path` token by token, and the figures of all of them.

    Args:
        numbers: of the rows to show, from 1; the first few unless given.
        html: a file to write both into, with pictures.

    Raises:
        GraftError: the data cannot be read at all, or there is no such row.
    """
    if html is not None and html.suffix.lower() not in (".html", ".htm"):
        raise ConfigError(f"--html {html}: a page is called .html", fix=f"call it {html.stem}.html")
    tokenizer = open_tokenizer(config.model)
    template = load_template(config.data.template, tokenizer.chat_template)
    wanted = set(numbers or range(1, (MANY if html else FEW) + 1))
    survey, tally, chosen = Survey(Terms(config.data.cutoff), checks=()), Tally(), dict[int, Seen]()
    with TemporaryDirectory(prefix="show-", dir=spill_folder()) as folder:
        builder = CorpusBuilder(Path(folder))

        def keep(conversation: Conversation, samples: Sequence[TokenSequence], *, origin: int) -> None:
            builder.append_row([sample for sample in samples if len(sample) <= config.data.cutoff], origin=origin)

        for number, seen in enumerate(seen_rows(config.data, template, tokenizer, say, keep), start=1):
            survey.add(seen)
            tally.add(seen)
            if number in wanted:
                chosen[number] = seen
        subject = survey.finish()
        for number in numbers:
            if number not in chosen:
                what = f"--row {number}: there are {len(subject)} rows"
                raise ConfigError(what, fix=f"give a number from 1 to {len(subject)}")
        logical, executed = _shared(config, builder.finish())
    figures = tally.figures(subject, logical=logical, executed=executed)
    rows = [_row(config, number, chosen[number], template, tokenizer) for number in numbers or chosen]
    if html is not None:
        facts = {
            "data": named_data(config.data),
            "tokenizer": config.model.path,
            "template": template_name(config, tokenizer),
        }
        write_data_report(html, statistics=figures, rows=rows, facts=facts)
    return Shown(rows, figures, str(html or ""))


def _row(config: Config, number: int, row: Seen, template: Template, tokenizer: Tokenizer) -> ShownRow:
    samples: list[list[Cell]] = []
    if row.conversation and not row.fault:
        weight = prompt_weight_of(config.data)
        ((_, sequences),) = encode_each([row.conversation], template, tokenizer, weight)
        cutoff = config.data.cutoff if row.messages[0].role != "text" else max(map(len, sequences))
        samples = [cells_of(sequence, tokenizer, tokenizer.decode, cutoff=cutoff) for sequence in sequences]
    return ShownRow(number, str(row.source), samples, str(row.fault or ""))


def _shared(config: Config, corpus: Corpus) -> tuple[int, int]:
    """Tokens of an epoch of all these samples, and those that are computed, in the steps that training would take."""
    if not corpus:
        return 0, 0
    settings = config.train
    batches = Batches(corpus, global_batch=settings.global_batch, epochs=1, max_steps=0, seed=settings.seed)
    logical = executed = 0
    for step in range(1, batches.total_steps + 1):
        samples = batches.of_step(step)
        logical += sum(map(len, samples))
        executed += planted_tokens(samples, max_tokens=settings.max_tokens)
    return logical, executed
