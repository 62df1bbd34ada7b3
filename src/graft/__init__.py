"""Graft: fine-tune LLaMA-class models with adapters, with proof.

    import graft

    result = graft.train({"model.path": "seedling", "data.path": "rows.json"}, out="runs/first")
    assistant = graft.load(adapter=result.adapter)
    print(assistant.answer("Where does Anna live?"))

Settings are those of the command's `--set` and `--config`, nested or dotted. Errors that a caller can act on are
`graft.GraftError`s.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from graft.errors import GraftError, Interrupted
from graft.seedling import seedling_path

if TYPE_CHECKING:
    from graft.commands.chat import Assistant
    from graft.commands.demo import DemoResult
    from graft.commands.eval import EvalResult
    from graft.commands.merge import MergeResult
    from graft.commands.synth import SynthResult
    from graft.commands.train import TrainResult
    from graft.training import Subscriber

__version__ = "0.1.0"
__all__ = ["GraftError", "Interrupted", "demo", "evaluate", "load", "merge", "seedling_path", "synth", "train"]

# The verbs are imported when they are called: `import graft` stays quick.


def train(
    settings: Mapping[str, Any],
    *,
    out: str | Path,
    resume: bool = False,
    allow: Sequence[str] = (),
    subscribers: "Sequence[Subscriber]" = (),
) -> "TrainResult":
    """Train an adapter and leave it in `out/adapter`. `subscribers` are called with every event of the run.

    A run that lies there broken off goes on; `allow` names settings in which it may have been another. SIGINT and
    SIGTERM finish the step at hand, save it and raise `graft.Interrupted`, which is no `Exception`.
    """
    from graft.commands.train import train as run
    from graft.config import build_config

    return run(build_config(settings), Path(out), resume=resume, allow=allow, subscribers=subscribers)


def evaluate(
    settings: Mapping[str, Any] | None = None,
    *,
    report: str | Path,
    base: bool = True,
    adapter: str | Path | None = None,
    merged: str | Path | None = None,
    max_new_tokens: int | None = None,
) -> "EvalResult":
    """Score base, adapter and merged model on the rows that the adapter's run held out, or on all of `data.path`."""
    from graft.commands.eval import evaluate as run
    from graft.config import MAX_NEW_TOKENS

    return run(
        settings or {},
        report=Path(report),
        base=base,
        adapter=str(adapter) if adapter else None,
        merged=str(merged) if merged else None,
        max_new_tokens=max_new_tokens or MAX_NEW_TOKENS,
    )


def merge(
    adapter: str | Path | Sequence[str | Path],
    *,
    out: str | Path,
    weights: Sequence[float] = (),
    settings: Mapping[str, Any] | None = None,
) -> "MergeResult":
    """Merge adapters into their base; `ProofError` if the result does not answer as base and adapters did."""
    from graft.commands.merge import merge as run

    adapters = [adapter] if isinstance(adapter, str | Path) else adapter
    return run([str(one) for one in adapters], Path(out), weights=weights, settings=settings)


def load(
    model: str | Path | None = None,
    *,
    adapter: str | Path | None = None,
    settings: Mapping[str, Any] | None = None,
) -> "Assistant":
    """A base, with an adapter where one is given, to ask; an adapter that Graft made knows its base."""
    from graft.commands.chat import load as run

    return run(str(model) if model else None, str(adapter) if adapter else None, settings=settings)


def synth(settings: Mapping[str, Any], *, out: str | Path, resume: bool = False) -> "SynthResult":
    """Make rows in `out/data.jsonl` with a teacher. Settings are the verb's flags: `teacher`, `model`, `count`..."""
    from graft.commands.synth import synth as run

    return run(settings, Path(out), resume=resume)


def demo(*, out: str | Path) -> "DemoResult":
    """The main job on what the package ships."""
    from graft.commands.demo import demo as run

    return run(Path(out))
