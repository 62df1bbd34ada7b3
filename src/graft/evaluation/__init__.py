"""Layer 3: scores on held-out data, their metrics, and the proof that two models answer alike."""

from graft.evaluation.conform import Conformance, Statement, compare, interrogate
from graft.evaluation.scores import Question, Score, Scored, answer_figures, held_out_loss, score

__all__ = [
    "Conformance",
    "Question",
    "Score",
    "Scored",
    "Statement",
    "answer_figures",
    "compare",
    "held_out_loss",
    "interrogate",
    "score",
]
