import re
from pathlib import Path

import numpy as np

from graft.data.statistics import Statistics
from graft.data.view import Cell
from graft.report import ShownRow, figures_of, write_data_report
from graft.report.data import data_pictures

FIGURES = Statistics(
    rows=4, faulty=1, lengths=np.array([30, 40, 900]), trained=np.array([10, 20, 300]),
    roles={"user": 3, "assistant": 3}, languages={"Latin": 2, "Chinese": 1}, duplicates=1, near=2,
    cutoff=512, logical=70, executed=50,
)  # fmt: skip
CELLS = [
    Cell("<s>", "context", special=True),
    Cell("<b>Where</b> & why", "context"),
    Cell(" In Elm", "trained"),
    Cell("字", "trained", tokens=3),
    Cell("</s>", "cut", special=True),
]
ROWS = [ShownRow(7, "rows.jsonl:9", [CELLS]), ShownRow(8, "rows.jsonl:10", [], "`output` is empty")]


def page(path: Path) -> str:
    write_data_report(path / "page.html", statistics=FIGURES, rows=ROWS, facts={"data": "<rows>.jsonl"})
    return (path / "page.html").read_text(encoding="utf-8")


def test_the_page_shows_tokens_by_what_becomes_of_them(tmp_path: Path) -> None:
    html = page(tmp_path)
    assert '<i class="context special">&lt;s&gt;</i><i class="context">&lt;b&gt;Where&lt;/b&gt; &amp; why</i>' in html
    assert '<i class="trained"> In Elm</i>' in html
    assert '<i class="cut special">&lt;/s&gt;</i>' in html
    assert "row 7 · rows.jsonl:9 · 7 tokens: 4 trained, 2 context, 1 cut" in html
    assert "`output` is empty" in html
    assert "&lt;rows&gt;.jsonl" in html


def test_the_page_loads_nothing_and_runs_nothing(tmp_path: Path) -> None:
    html = page(tmp_path)
    assert "default-src 'none'" in html
    assert not re.search(r"<script|<link|<img|@import|url\((?!#)|\son\w+=", html)
    assert not re.search(r"(?:src|href)=\"(?!#)", re.sub(r"xlink:href|xmlns(:\w+)?=\"[^\"]*\"", "", html))


def test_the_pictures_have_every_figure_and_depend_on_them_alone() -> None:
    svg = data_pictures(FIGURES)
    assert svg == data_pictures(FIGURES)
    for text in (
        "cutoff 512",
        "trained tokens of a sample",
        "assistant",
        "Chinese",
        "exact copies",
        "saved by sharing",
    ):
        assert text in svg


def test_the_figures_in_words() -> None:
    said = figures_of(FIGURES)
    assert said["rows"] == "4 in 3 samples, 1 of them faulty (see `graft data check`)"
    assert said["trained"] == "330 tokens, 34.0%"
    assert said["above the cutoff"] == "1 samples of more than 512 tokens"
    assert said["duplicates"] == "1 exact, 1 near"
    assert said["saved by sharing"] == "20 of 70 tokens, 28.6%"
