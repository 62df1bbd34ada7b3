import math

from graft.report import COLUMNS, cells

FIGURES = {
    "loss": 0.0004,
    "perplexity": 123456.0,
    "exact_match": 1.0,
    "rouge_l": 0.99996,
    "seconds": 0.04,
    "tokens_per_s": 1234.5,
    "peak_memory_bytes": 3 * 2**30,
}


def test_every_column_has_its_cell() -> None:
    shown = dict(zip(COLUMNS, cells(FIGURES), strict=True))
    assert shown["loss"] == "0.000"
    assert shown["perplexity"] == "1.235e+05"
    assert shown["exact match"] == "1.000"
    assert shown["memory"] == "3072 MiB"
    assert shown["tokens/s"] == "1234"


def test_figures_that_are_not_finite_are_shown_as_they_are() -> None:
    shown = cells(FIGURES | {"loss": math.nan, "perplexity": math.inf})
    assert shown[:2] == ["nan", "inf"]
