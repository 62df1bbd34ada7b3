import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from graft.report import COLUMNS, Example, write_report

STEPS = [
    {"step": 1, "loss": 2.5},
    {"step": 2, "loss": 2.0, "held_out_loss": 2.1},
    {"step": 3, "loss": 1.5},
]
FIGURES = {
    "loss": 1.23456,
    "perplexity": 3.4371,
    "exact_match": 0.5,
    "rouge_l": 0.75,
    "seconds": 12.34,
    "tokens_per_s": 99.6,
    "peak_memory_bytes": 512 * 2**20,
}
NASTY = "<script>alert('x')</script> & \"<b>\" </td></table> 鱼 {{ 7 * 7 }}"


class Page(HTMLParser):
    """What a browser makes of a page: tags, attributes, and the text of the cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.open: list[str] = []
        self.cells: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]
        if tag in ("td", "th"):
            self.cells.append("")
        if tag in ("td", "th", "pre", "title"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data
        if self.open and self.open[-1] in ("td", "th"):
            self.cells[-1] += data


def report(tmp_path: Path, **parts: Any) -> str:
    file = tmp_path / "report.html"
    write_report(file, **{"title": "Run first", **parts})
    return file.read_text(encoding="utf-8")


@pytest.fixture
def full(tmp_path: Path) -> str:
    return report(
        tmp_path,
        title=NASTY,
        steps=STEPS,
        first_loss=2.6,
        scores={"base": FIGURES | {"loss": 2.0}, NASTY: FIGURES},
        proof=NASTY,
        examples=[Example(NASTY, "Cod.", {"base": NASTY, "adapter": "Cod. "})],
        settings=NASTY,
        facts={NASTY: NASTY},
    )


def test_the_report_loads_nothing_from_elsewhere_and_runs_nothing(full: str) -> None:
    page = Page(full)
    assert not {"script", "link", "iframe", "object", "embed", "img", "base", "form"} & set(page.tags)
    loaded = [
        (tag, name, value)
        for tag, name, value in page.attributes
        if name in ("src", "srcset", "href", "xlink:href", "data", "action", "poster") and not value.startswith("#")
    ]
    assert loaded == []
    assert not [name for _, name, _ in page.attributes if name.startswith("on")]
    styles = re.findall(r"<style.*?</style>", full, re.DOTALL) + [
        v for _, name, v in page.attributes if name == "style"
    ]
    assert not [style for style in styles if "@import" in style or re.search(r"url\((?!#)", style)]
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'; img-src data:") in page.attributes


def test_what_a_model_says_is_shown_to_the_letter_and_is_no_markup(full: str) -> None:
    page = Page(full)
    assert page.cells.count(NASTY) == 5  # the question, an answer, a candidate, a fact and its name
    assert page.text.count(NASTY) == 9  # these; the title, twice; the proof; the settings
    assert "b" not in page.tags


def test_the_table_has_the_figures_of_every_candidate(full: str) -> None:
    cells = Page(full).cells
    assert set(COLUMNS) <= set(cells)
    row = cells.index("base") + 1
    assert cells[row : row + 7] == ["2.000", "3.437", "0.500", "0.750", "12.3", "100", "512 MiB"]


def test_right_and_wrong_answers_are_told_apart(full: str) -> None:
    classes = [value for tag, name, value in Page(full).attributes if tag == "td" and name == "class"]
    assert [value for value in classes if "right" in value or "wrong" in value] == ["text wrong", "text right"]


def test_the_curve_is_in_the_page(full: str) -> None:
    assert "svg" in Page(full).tags
    assert full.count("<svg") == full.count("</svg>") == 1


def test_parts_that_are_not_given_are_left_out(tmp_path: Path) -> None:
    page = Page(report(tmp_path))
    assert "Run first" in page.text
    assert not {"svg", "table", "pre", "h2"} & set(page.tags)


def test_the_same_run_gives_the_same_bytes(tmp_path: Path) -> None:
    parts = {"steps": STEPS, "first_loss": 2.6, "scores": {"base": FIGURES}}
    assert report(tmp_path, **parts) == report(tmp_path, **parts)
