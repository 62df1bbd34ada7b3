"""Layer 2: the training loop, its optimizer, the order of samples, checkpoints and events."""

from graft.train.batches import Batches
from graft.train.checkpoint import Checkpoints, State, restore
from graft.train.events import Event, MetricsFile, Saved, Started, Stepped, Subscriber, read_metrics
from graft.train.loop import Training
from graft.train.optimizer import build_optimizer, learning_rate

__all__ = [
    "Batches",
    "Checkpoints",
    "Event",
    "MetricsFile",
    "Saved",
    "Started",
    "State",
    "Stepped",
    "Subscriber",
    "Training",
    "build_optimizer",
    "learning_rate",
    "read_metrics",
    "restore",
]
