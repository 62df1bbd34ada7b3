"""Layer 3: pictures, tables, the model card and the self-contained HTML report."""

from graft.report.bench import BENCH_COLUMNS, bench_bars, bench_cells
from graft.report.card import model_card
from graft.report.data import ShownRow, figures_of, write_data_report
from graft.report.html import Example, write_report
from graft.report.synth import synth_report
from graft.report.table import COLUMNS, cells

__all__ = [
    "BENCH_COLUMNS",
    "COLUMNS",
    "Example",
    "ShownRow",
    "bench_bars",
    "bench_cells",
    "cells",
    "figures_of",
    "model_card",
    "synth_report",
    "write_data_report",
    "write_report",
]
