"""`graft eval`: base, adapter and merged model on held-out rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graft.adapters import read_provenance
from graft.commands.assembly import (
    Answerer,
    adapter_folder,
    base_of,
    check_positions,
    open_answerer,
    questions_of,
    refuse_unread,
    stop_ids,
)
from graft.commands.samples import all_conversations, data_record, held_out_conversations, named_data
from graft.config import MAX_NEW_TOKENS, Config, build_config, flatten_settings
from graft.errors import ConfigError, DataError
from graft.evaluation import Question, Score, Scored, score
from graft.records import Conversation
from graft.report import Example, write_report
from graft.runtime import say_on_stderr

Say = Callable[[str], None]

READS = ("model", "data.path", "data.format", "data.template", "data.cutoff")
_EXAMPLES = 40  # rows whose answers the report shows


@dataclass(frozen=True)
class EvalResult:
    """Figures of each candidate, and where the report is."""

    candidates: dict[str, Score]
    report: str

    def as_json(self) -> dict[str, Any]:
        return {"candidates": {name: s.as_json() for name, s in self.candidates.items()}, "report": self.report}


@dataclass
class Examination:
    """Candidates, one after another, on the same rows."""

    conversations: Sequence[Conversation]
    config: Config
    max_new_tokens: int = MAX_NEW_TOKENS
    say: Say = say_on_stderr
    questions: list[Question] = field(default_factory=list)
    scored: dict[str, Scored] = field(default_factory=dict)

    def ask(self, name: str, answerer: Answerer, slot: int | None) -> None:
        """Score the adapter in `slot`, or the base alone (None), under `name`."""
        tokenizer = answerer.base.tokenizer
        before, self.questions = (
            self.questions,
            questions_of(self.conversations, self.config.data, answerer.template, tokenizer),
        )
        if before and [q.sample.source for q in before] != [q.sample.source for q in self.questions]:
            raise DataError(
                f"other rows fit data.cutoff {self.config.data.cutoff} for {name} than for the candidates before it",
                fix="raise data.cutoff until every row fits",
            )
        if left_out := len(self.conversations) - len(self.questions):
            self.say(
                f"{name}: {left_out} of {len(self.conversations)} rows are longer than data.cutoff "
                f"{self.config.data.cutoff} and are left out"
            )
        virtual = 0 if slot is None else answerer.bank.adapters[slot].virtual_tokens
        check_positions(answerer.base, [question.sample for question in self.questions], virtual_tokens=virtual)
        self.scored[name] = score(
            answerer.bank,
            slot,
            self.questions,
            stop_ids=stop_ids(answerer.base, answerer.template),
            decode=tokenizer.decode,
            max_new_tokens=self.max_new_tokens,
            max_tokens=max(self.config.train.max_tokens, self.config.data.cutoff),
        )

    @property
    def scores(self) -> dict[str, Score]:
        return {name: scored.score for name, scored in self.scored.items()}

    def examples(self) -> list[Example]:
        """The first rows with every candidate's answer."""
        answers = {name: scored.answers for name, scored in self.scored.items()}
        return [
            Example(question.asked, question.reference, {name: given[row] for name, given in answers.items()})
            for row, question in enumerate(self.questions[:_EXAMPLES])
        ]


def evaluate(
    settings: Mapping[str, Any],
    *,
    report: Path,
    base: bool = True,
    adapter: str | None = None,
    merged: str | None = None,
    max_new_tokens: int = MAX_NEW_TOKENS,
    say: Say = say_on_stderr,
) -> EvalResult:
    """Score the candidates asked for on the same rows, and write `report`.

    Which rows: those that the run of the adapter, or of the one merged, held out, where `data.path` is its file or is
    not given; every row of any other file.

    Args:
        settings: of `READS`, those that are to be other than in the run.
        base: score the base as well.
        adapter: folder of an adapter, or of the run that made it.
        merged: folder of a merged model.
        say: is given what people should know.

    Raises:
        GraftError: a candidate or the rows cannot be used, or nothing is asked for.
    """
    if not (base or adapter or merged):
        raise ConfigError("nothing to evaluate", fix="leave --no-base out, or give --adapter or --merged")
    if report.is_dir():
        raise ConfigError(f"{report} is a folder", fix="give a file for the report")
    given = flatten_settings(settings)
    refuse_unread(given, verb="eval", reads=READS)
    folder = adapter_folder(adapter) if adapter else None
    made_from = folder or (Path(merged).expanduser() if merged else None)
    provenance = read_provenance(made_from) if made_from else None
    conversations, config = _rows(given, provenance.data if provenance else {}, say)
    exam = Examination(conversations, config, max_new_tokens, say)
    template = str(given["data.template"]) if "data.template" in given else None
    if base or folder:
        model = base_of(made_from, given) if made_from else config.model
        answerer = open_answerer(model, folder, template=template)
        if base:
            exam.ask("base", answerer, None)
        if folder:
            exam.ask("adapter", answerer, answerer.slot)
        del answerer  # two models at a time may be more than fits
    if merged:
        # In the base's type, and quantised only if that is asked for: merging has dequantised it.
        named = {"model.dtype": base_of(made_from, given).dtype} if made_from else {}
        model = build_config(named, given, {"model.path": merged}).model
        exam.ask("merged", open_answerer(model, template=template), None)
    report.parent.mkdir(parents=True, exist_ok=True)
    write_report(
        report,
        title="Evaluation",
        scores={name: figures.as_json() for name, figures in exam.scores.items()},
        examples=exam.examples(),
        facts={"data": named_data(config.data), "rows": f"{len(exam.questions)} of {len(exam.conversations)}"},
    )
    return EvalResult(exam.scores, str(report))


def _rows(given: Mapping[str, Any], trained_on: Mapping[str, Any], say: Say) -> tuple[list[Conversation], Config]:
    """The rows to ask, and the settings with which they are read.

    Args:
        trained_on: the data record of the run; empty where none is known.
    """
    recorded = {f"data.{name}": value for name, value in trained_on.items() if name != "sha256"}
    config = build_config(recorded, given)
    if trained_on and data_record(config.data)["sha256"] == trained_on["sha256"]:
        held_out = held_out_conversations(build_config(given, recorded).data)
        if not held_out:
            raise DataError(f"the run on {named_data(config.data)} held no row out", fix="give other rows with --data")
        return held_out, config
    if trained_on and "data.path" not in given:
        raise DataError(
            f"{named_data(config.data)} is no longer the file that the adapter was trained on",
            fix="restore it, or give rows that it has not seen with --data",
        )
    if trained_on:
        say(f"every row of {named_data(config.data)} is asked: it is not the file that the adapter was trained on")
    return all_conversations(config.data), config
