"""What a run is steered by: figures of the held-out rows, to choose the best step and to stop early."""

from collections.abc import Callable, Mapping
from functools import partial

from graft.adapters import Bank
from graft.commands.assembly import questions_of, stop_ids
from graft.commands.samples import held_out_conversations
from graft.config import MAX_NEW_TOKENS, Config
from graft.data import Template
from graft.errors import ConfigError
from graft.evaluation import answer_figures
from graft.model import Base
from graft.training import HIGHER_IS_BETTER, Selection

Figures = Callable[[], Mapping[str, float]]


def selection_of(config: Config) -> Selection:
    return Selection(config.best.by, patience=config.best.patience, min_gain=config.best.min_gain)


def why_best(config: Config) -> str:
    """In words, why the best step is the best."""
    figure = config.best.by
    return f"the {'highest' if HIGHER_IS_BETTER[figure] else 'lowest'} held-out {figure}"


def check_steering(config: Config, held_out: int) -> None:
    """Raise a ConfigError if the run is steered by what it does not have: held-out rows, measurements, checkpoints."""
    asked = config.best.by not in ("last", "loss") or config.best.patience
    if asked and not held_out:
        what = f"best.by {config.best.by} with best.patience {config.best.patience} goes by held-out rows"
        raise ConfigError(f"{what}, and none is held out", fix="raise data.held_out, or leave them as they are")
    if config.best.patience and not config.train.eval_every:
        what = f"best.patience {config.best.patience} counts measurements, and with train.eval_every 0 there is one"
        raise ConfigError(f"{what}, after the last step", fix="set train.eval_every, or leave best.patience 0")
    if config.bad_numbers.action == "roll_back" and not config.checkpoint.every:
        what = "bad_numbers.action roll_back goes back to checkpoints that are due, and with checkpoint.every 0 none is"
        raise ConfigError(what, fix="set checkpoint.every, or bad_numbers.action=skip")


def figures_of(config: Config, base: Base, bank: Bank, slot: int, template: Template) -> Figures | None:
    """What answers the held-out rows, where the run is steered by answers."""
    if config.best.by in ("last", "loss"):
        return None
    questions = questions_of(held_out_conversations(config.data), config.data, template, base.tokenizer)
    return partial(
        answer_figures,
        bank,
        slot,
        questions,
        stop_ids=stop_ids(base, template),
        decode=base.tokenizer.decode,
        max_new_tokens=MAX_NEW_TOKENS,
    )
