"""`graft eval`: base, adapter and merged model on held-out rows."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from graft.commands.assembly import (
    Answerer,
    adapter_folder,
    base_of,
    open_answerer,
    questions_of,
    split_conversations,
    stop_ids,
)
from graft.config import Config, ModelConfig, build_config, flatten_settings, read_config
from graft.errors import ConfigError, DataError
from graft.evaluation import Question, Score, Scored, score
from graft.records import Conversation
from graft.report import Example, write_report
from graft.staging import sha256

Say = Callable[[str], None]

MAX_NEW_TOKENS = 256
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
    say: Say = lambda _: None
    questions: list[Question] = field(default_factory=list)
    scored: dict[str, Scored] = field(default_factory=dict)

    def ask(self, name: str, answerer: Answerer, slot: int | None) -> None:
        """Score the adapter in `slot`, or the base alone (None), under `name`."""
        tokenizer = answerer.base.tokenizer
        self.questions = questions_of(self.conversations, self.config.data, answerer.template, tokenizer)
        if left_out := len(self.conversations) - len(self.questions):
            self.say(
                f"{name}: {left_out} of {len(self.conversations)} rows are longer than data.cutoff "
                f"{self.config.data.cutoff} and are left out"
            )
        self.scored[name] = score(
            answerer.bank,
            slot,
            self.questions,
            stop_ids=stop_ids(answerer.base),
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
    say: Say = lambda _: None,
) -> EvalResult:
    """Score the candidates asked for on the same rows, and write `report`.

    Which rows: those that the adapter's run held out, where `data.path` is that run's file or is not given; every row
    of any other file.

    Args:
        settings: what is to be other than in the adapter's run.
        base: score the base as well.
        adapter: folder of an adapter, or of the run that made it.
        merged: folder of a merged model.
        say: is given what people should know.

    Raises:
        GraftError: a candidate or the rows cannot be used, or nothing is asked for.
    """
    if not (base or adapter or merged):
        raise ConfigError("nothing to evaluate", fix="leave --no-base out, or give --adapter or --merged")
    given = flatten_settings(settings)
    folder = adapter_folder(adapter) if adapter else None
    run = folder.parent if folder and (folder.parent / "config.yaml").exists() else None
    config = build_config(read_config(run / "config.yaml") if run else {}, given)
    exam = Examination(_rows(config, run), config, max_new_tokens, say)
    template = str(given["data.template"]) if "data.template" in given else None
    if base or folder:
        model = base_of(folder, given) if folder else config.model
        answerer = open_answerer(model, folder, template=template)
        if base:
            exam.ask("base", answerer, None)
        if folder:
            exam.ask("adapter", answerer, answerer.slot)
        del answerer  # two models at a time may be more than fits
    if merged:
        exam.ask("merged", open_answerer(ModelConfig(path=merged, dtype=config.model.dtype), template=template), None)
    report.parent.mkdir(parents=True, exist_ok=True)
    write_report(
        report,
        title="Evaluation",
        scores={name: figures.as_json() for name, figures in exam.scores.items()},
        examples=exam.examples(),
        facts={"data": config.data.path, "rows": f"{len(exam.questions)} of {len(exam.conversations)}"},
    )
    return EvalResult(exam.scores, str(report))


def _rows(config: Config, run: Path | None) -> list[Conversation]:
    """The rows that no candidate was trained on, as far as the run tells."""
    if run and _content_hash(config.data.path) == json.loads((run / "data.json").read_text(encoding="utf-8"))["sha256"]:
        parts = split_conversations(config.data)
        if not parts.held_out:
            raise DataError(f"the run in {run} held no row out", fix="give rows that it has not seen with --data")
        return parts.held_out
    return split_conversations(config.data.model_copy(update={"held_out": 0.0})).train


def _content_hash(path: str) -> str:
    return sha256(Path(path)) if Path(path).is_file() else ""
