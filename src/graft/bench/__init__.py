"""Layer 3: Graft measured beside its peers, on the same rows, each contender in a process of its own."""

from graft.bench.contest import Contest
from graft.bench.figures import Figures, Work
from graft.bench.flops import needed_flops, weights_of
from graft.bench.peers import BY_DEFAULT, PEERS
from graft.bench.rows import InOrder, grouped_by_length, is_encoded, load_encoded, read_encoded, write_encoded
from graft.bench.turn import Ran, Task, Turn

__all__ = [
    "BY_DEFAULT",
    "PEERS",
    "Contest",
    "Figures",
    "InOrder",
    "Ran",
    "Task",
    "Turn",
    "Work",
    "grouped_by_length",
    "is_encoded",
    "load_encoded",
    "needed_flops",
    "read_encoded",
    "weights_of",
    "write_encoded",
]
