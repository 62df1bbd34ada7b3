import pytest

from graft.evaluation.metrics import exact_match


@pytest.mark.parametrize(
    ("reference", "answer", "score"),
    [
        ("Cod.", "Cod.", 1),
        ("Cod.", " Cod.\n", 1),
        ("Cod.", "cod.", 0),
        ("Cod.", "Cod", 0),
        ("鱼", "鱼", 1),
        ("", "", 1),
    ],
)
def test_exact_match(reference: str, answer: str, score: float) -> None:
    assert exact_match(reference, answer) == score
