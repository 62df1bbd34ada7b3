import xml.etree.ElementTree as ElementTree
from typing import Any

from graft.report import BENCH_COLUMNS, bench_bars, bench_cells

FIGURES: dict[str, Any] = {
    "samples_per_s": 2.5, "tokens_logical_per_s": 600.0, "tokens_executed_per_s": 540.0, "tokens_trained_per_s": 420.0,
    "limit_share": 0.4, "peak_memory_bytes": 3 * 2**20, "beside": None, "loss_difference": None,
}  # fmt: skip
PEER = {**FIGURES, "samples_per_s": 1.25, "beside": "graft", "loss_difference": 2e-7}


def test_a_cell_for_each_column() -> None:
    assert bench_cells(FIGURES, None) == ["2.50", "600", "540", "420", "40%", "3 MiB", "", ""]
    assert bench_cells(PEER, 2.0)[-2:] == ["2.0e-07", "2.00 x"]
    assert len(BENCH_COLUMNS) == len(bench_cells(PEER, 2.0))


def test_the_picture_names_every_contender_and_depends_on_the_figures_alone() -> None:
    svg = bench_bars({"graft": FIGURES, "peer": PEER})
    assert svg == bench_bars({"graft": FIGURES, "peer": PEER})
    root = ElementTree.fromstring(svg)
    words = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"graft", "peer", "2.50", "1.25", "samples/s"} <= words
