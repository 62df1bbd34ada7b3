"""Layer 2: the training loop, optimizers, schedules, the order of samples, checkpoints and events."""

from graft.training.batches import Batches
from graft.training.checkpoint import Checkpoints, State, read_state, restore
from graft.training.compiled import compile_norms
from graft.training.events import (
    Bystander,
    Ended,
    Evaluated,
    Event,
    MetricsFile,
    Saved,
    Started,
    Stepped,
    Subscriber,
    Warned,
    lines_fault,
    read_metrics,
)
from graft.training.loop import Training
from graft.training.numbers import BadNumbers
from graft.training.optimizer import build_optimizer, check_optimizer
from graft.training.saving import Saves
from graft.training.schedule import learning_rate
from graft.training.selection import HIGHER_IS_BETTER, Selection
from graft.training.trackers import TRACKERS, TrackedRun, check_trackers

__all__ = [
    "HIGHER_IS_BETTER",
    "TRACKERS",
    "BadNumbers",
    "Batches",
    "Bystander",
    "Checkpoints",
    "Ended",
    "Evaluated",
    "Event",
    "MetricsFile",
    "Saved",
    "Saves",
    "Selection",
    "Started",
    "State",
    "Stepped",
    "Subscriber",
    "TrackedRun",
    "Training",
    "Warned",
    "build_optimizer",
    "check_optimizer",
    "check_trackers",
    "compile_norms",
    "learning_rate",
    "lines_fault",
    "read_metrics",
    "read_state",
    "restore",
]
