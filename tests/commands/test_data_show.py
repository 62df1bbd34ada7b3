"""`graft data show`, `convert` and `split` as users run them."""

import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

from graft.runtime import cache_folder
from tests.commands.conftest import Graft

ROWS = [{"instruction": f"Where is {name}?", "output": f"{name} is in Elm."} for name in ("Ann", "Bob", "Cid", "Dee")]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in ROWS))
    return path


def test_any_row_is_shown_by_its_number_with_what_is_trained(graft: Graft, rows: Path) -> None:
    ran = graft("data", "show", "--data", rows, "--row", 2, "--row", 4)
    assert ran.code == 0, ran.err
    assert f"row 2 {rows}:2" in ran.out
    assert "### Response:\n⟦Bob is in Elm.⦗</s>⦘⟧" in ran.out
    assert "⟦Dee is in Elm.⦗</s>⦘⟧" in ran.out
    assert "Ann is in Elm" not in ran.out
    assert "saved by sharing: " in ran.out


def test_a_special_token_is_told_from_text_that_spells_it(
    graft: Graft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps({'instruction': 'How does a text end?', 'output': 'With </s> it does.'})}\n")
    monkeypatch.setenv("NO_COLOR", "1")
    ran = graft("data", "show", "--data", path, "--set", "data.held_out=0")
    assert "⟦With </s> it does.⦗</s>⦘⟧" in ran.out
    assert "⦗special token⦘" in ran.out


class Screen(io.StringIO):
    """A terminal."""

    def isatty(self) -> bool:
        return True


def test_a_terminal_where_colours_are_not_wanted_has_marks_too(
    graft: Graft, rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr("sys.stdout", coloured := Screen())
    assert graft("data", "show", "--data", rows, "--row", 2).code == 0
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr("sys.stdout", plain := Screen())
    assert graft("data", "show", "--data", rows, "--row", 2).code == 0
    assert "⟦" not in coloured.getvalue()
    assert "⟦Bob is in Elm.⦗</s>⦘⟧" in re.sub("\x1b\\[[0-9;]*m", "", plain.getvalue())


def test_what_the_cutoff_takes_is_marked(graft: Graft, rows: Path) -> None:
    whole = graft("data", "show", "--data", rows, "--row", 1, "--json").json["rows"][0]["samples"][0]
    cutoff = sum(cell["tokens"] for cell in whole) - 2
    ran = graft("data", "show", "--data", rows, "--row", 1, "--set", f"data.cutoff={cutoff}")
    assert "⟧⟪.⦗</s>⦘⟫" in ran.out


def test_faulty_rows_are_shown_with_their_fault(graft: Graft, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in [*ROWS, {"instruction": "a", "output": "\u001b[2J"}, {}]))
    ran = graft("data", "show", "--data", path, "--row", 5, "--row", 6)
    assert ran.code == 0
    assert "the key `instruction` is missing" in ran.out
    assert "\x1b" not in ran.out
    assert "\\x1b[2J" in ran.out


def test_the_page_has_rows_and_pictures(graft: Graft, rows: Path, tmp_path: Path) -> None:
    ran = graft("data", "show", "--data", rows, "--html", tmp_path / "page.html")
    assert ran.code == 0, ran.err
    html = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert html.count("<details") == 4
    assert "<svg" in html
    assert '<i class="trained special">&lt;/s&gt;</i>' in html


def test_a_number_beyond_the_rows_is_refused(graft: Graft, rows: Path) -> None:
    ran = graft("data", "show", "--data", rows, "--row", 5)
    assert ran.code == 2
    assert "there are 4 rows" in ran.err


def test_what_waits_on_disk_is_gone_afterwards(graft: Graft, rows: Path) -> None:
    assert graft("data", "show", "--data", rows).code == 0
    assert graft("data", "show", "--data", rows, "--row", 9).code == 2
    assert not list(cache_folder().glob("show-*"))


def test_rows_go_to_another_format_and_train_the_same_tokens(graft: Graft, rows: Path, tmp_path: Path) -> None:
    ran = graft("data", "convert", "--data", rows, "--to", "sharegpt", "--out", tmp_path / "s.json", "--json")
    assert ran.json == {"out": str(tmp_path / "s.json"), "rows": 4, "format": "sharegpt"}

    def samples(path: Path) -> Any:
        return [row["samples"] for row in graft("data", "show", "--data", path, "--row", 3, "--json").json["rows"]]

    assert samples(tmp_path / "s.json") == samples(rows)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--to", "message"), "did you mean messages?"),
        (("--to", "samsum"), "4 of 4 rows cannot be written as samsum"),
        (("--to", "messages", "--set", "data.cutoff=9"), "`graft data convert` does not read data.cutoff"),
    ],
)
def test_what_cannot_be_converted_is_refused_and_nothing_is_written(
    arguments: tuple[str, ...], said: str, graft: Graft, rows: Path, tmp_path: Path
) -> None:
    ran = graft("data", "convert", "--data", rows, "--out", tmp_path / "new/er/o.jsonl", *arguments)
    assert ran.code == 2
    assert said in ran.err
    assert [file.name for file in tmp_path.iterdir()] == ["rows.jsonl"]
    ran = graft("data", "convert", "--data", rows, "--to", "messages", "--out", rows / "o.jsonl")
    assert f"{rows} is no folder\n  -> give another --out" in ran.err


def test_rows_that_do_not_fit_are_named_with_the_ways_out(graft: Graft, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(f"{json.dumps(ROWS[0])}\n{json.dumps({**ROWS[1], 'input': 'At noon.'})}\n")
    ran = graft("data", "convert", "--data", path, "--to", "messages", "--out", tmp_path / "o.jsonl")
    assert ran.code == 2
    assert f"1 of 2 rows cannot be written as messages: {path}:2: it has no room for an input" in ran.err
    assert "--join writes an input below its instruction; --to alpaca has room for all of them" in ran.err
    assert (
        graft("data", "convert", "--data", path, "--to", "messages", "--out", tmp_path / "o.jsonl", "--join").code == 0
    )


def test_a_split_is_two_files_of_the_same_rows(graft: Graft, tmp_path: Path) -> None:
    rows = [{"input": f"ask {n}", "target": f"say {n}", "kind": n % 2} for n in range(40)]
    path = tmp_path / "rows.json"
    path.write_text(json.dumps(rows))
    ran = graft("data", "split", "--data", path, "--held-out", 0.25, "--by", "kind", "--out", tmp_path / "p", "--json")
    assert (ran.json["train_rows"], ran.json["held_out_rows"]) == (30, 10)
    read = [json.loads(line) for name in ("train", "held_out") for line in (tmp_path / f"p/{name}.jsonl").open()]
    assert sorted(read, key=lambda row: rows.index(row)) == rows
    again = graft("data", "split", "--data", path, "--out", tmp_path / "p")
    assert again.code == 2
    assert "is there already" in again.err
    assert graft("data", "split", "--data", path, "--out", tmp_path / "q", "--held-out", 1).code == 2


def test_a_page_is_not_written_over_data(graft: Graft, tmp_path: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"instruction": "Say hello.", "output": "Hello!"}\n')
    ran = graft("data", "show", "--data", rows, "--html", rows)
    assert ran.code == 2
    assert "a page is called .html" in ran.err
    assert rows.read_text().startswith('{"instruction"')
