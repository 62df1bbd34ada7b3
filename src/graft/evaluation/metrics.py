"""How near an answer is to the reference."""

from graft.data.rouge import rouge_l

__all__ = ["exact_match", "rouge_l"]


def exact_match(reference: str, answer: str) -> float:
    """1 where the answer is the reference, space at the ends aside; else 0."""
    return float(reference.strip() == answer.strip())
