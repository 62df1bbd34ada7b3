"""Layer 2: the training loop, optimizers, schedules, the order of samples, checkpoints and events."""

from graft.training.batches import Batches
from graft.training.checkpoint import Checkpoints, State, read_state, restore
from graft.training.compiled import compile_norms
from graft.training.events import Event, MetricsFile, Saved, Started, Stepped, Subscriber, read_metrics
from graft.training.loop import Training
from graft.training.optimizer import build_optimizer, check_optimizer
from graft.training.saving import Saves
from graft.training.schedule import learning_rate

__all__ = [
    "Batches",
    "Checkpoints",
    "Event",
    "MetricsFile",
    "Saved",
    "Saves",
    "Started",
    "State",
    "Stepped",
    "Subscriber",
    "Training",
    "build_optimizer",
    "check_optimizer",
    "compile_norms",
    "learning_rate",
    "read_metrics",
    "read_state",
    "restore",
]
