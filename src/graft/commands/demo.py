"""`graft demo`: the main job on what the package ships: check, plan, train, evaluate, merge, prove, report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import yaml

from graft.commands.assembly import open_answerer
from graft.commands.eval import EvalResult, Examination
from graft.commands.merge import merge_answerer
from graft.commands.outlook import outlook
from graft.commands.train import TrainResult, train
from graft.config import Config, ModelConfig, build_config, dump_config
from graft.data import read_conversations, read_rows
from graft.errors import RunError
from graft.evaluation import Conformance
from graft.report import write_report
from graft.runtime import say_on_stderr, seed_everything
from graft.seedling import demo_held_out_path, demo_train_path
from graft.training import Subscriber, read_metrics

_PROBES = 32  # held-out prompts on which the merged model is held against the adapter
_MERGED = "merged"
_NEW_TOKENS = 64  # the longest answer of the demo's rows is shorter


@dataclass(frozen=True)
class DemoResult:
    """What the demo showed."""

    training: TrainResult
    evaluation: EvalResult
    proof: Conformance

    def as_json(self) -> dict[str, Any]:
        return self.evaluation.as_json()


def demo_config() -> Config:
    """The settings of the demo's run."""
    text = (resources.files("graft.commands") / "demo.yaml").read_text(encoding="utf-8")
    return build_config(yaml.safe_load(text), {"data.path": str(demo_train_path())})


def demo(
    out: Path,
    *,
    subscribers: Sequence[Subscriber] = (),
    say: Callable[[str], None] = say_on_stderr,
) -> DemoResult:
    """Teach the seedling to follow instructions and prove that it took; everything is left in `out`."""
    if (out / _MERGED).exists():
        raise RunError(f"{out} is in use", fix="give another --out")
    config = demo_config()
    conversations = list(read_conversations(read_rows(str(demo_held_out_path()))))
    plan = outlook(config)
    say(f"check: {plan.rows} rows to train on, {plan.held_out} to watch, {len(conversations)} held out")
    say(
        f"plan: {plan.steps} steps, {plan.trained_parameters:,} trained parameters; an epoch has "
        f"{plan.tokens_logical:,} tokens, of which {plan.tokens_executed:,} are computed, the rest is shared"
    )
    training = train(config, out, subscribers=subscribers, say=say)
    say("evaluate: base and adapter on the held-out rows")
    seed_everything(config.train.seed)
    exam = Examination(conversations, config, _NEW_TOKENS, say)
    answerer = open_answerer(config.model, out / "adapter")
    exam.ask("base", answerer, None)
    exam.ask("adapter", answerer, answerer.slot)
    say("merge: into the base, and prove that it answers as the adapter did")
    merged = merge_answerer(answerer, out / _MERGED, [q.prompt_ids for q in exam.questions[:_PROBES]])
    say(f"proof: {merged.proof}")
    del answerer  # its memory is not the merged model's
    exam.ask("merged", open_answerer(ModelConfig(path=merged.merged)), None)
    report = out / "report.html"
    write_report(
        report,
        title="Graft demo",
        steps=read_metrics(out / "metrics.jsonl"),
        first_loss=training.first_eval_loss,
        scores={name: figures.as_json() for name, figures in exam.scores.items()},
        proof=f"Merged model against base and adapter: {merged.proof}.",
        examples=exam.examples(),
        settings=dump_config(config),
        facts={"rows": f"{plan.rows} trained on, {len(exam.questions)} held out", "adapter": training.adapter},
    )
    return DemoResult(training, EvalResult(exam.scores, str(report)), merged.proof)
