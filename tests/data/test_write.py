import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from graft.data import read_rows
from graft.data.write import write_rows
from graft.errors import DataError, DiskError

ROWS = [{"input": 'say "a",\nb', "target": "中文\r\n🙂"}, {"input": "c", "target": "", "n": [1, {"a": None}]}]


@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_rows_read_back_as_they_were(suffix: str, tmp_path: Path) -> None:
    write_rows(tmp_path / f"new/rows{suffix}", ROWS)
    assert [row.fields for row in read_rows(str(tmp_path / f"new/rows{suffix}"))] == ROWS
    assert [file.name for file in (tmp_path / "new").iterdir()] == [f"rows{suffix}"]


@pytest.mark.parametrize("rows", [[], ROWS[:1], ROWS, [{}], [{"a": "b\u2028c\u0085d"}]])
def test_a_list_is_written_row_by_row_as_it_would_be_whole(rows: list[dict[str, object]], tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.json", rows)
    assert (tmp_path / "rows.json").read_text(encoding="utf-8") == f"{json.dumps(rows, ensure_ascii=False, indent=1)}\n"


def test_a_table_holds_texts_as_they_are_and_all_else_as_json(tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.csv", ROWS)
    read = [row.fields for row in read_rows(str(tmp_path / "rows.csv"))]
    assert read == [{**ROWS[0], "n": ""}, {"input": "c", "target": "", "n": '[1, {"a": null}]'}]


def test_nothing_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "rows.json").write_text("mine")
    with pytest.raises(DataError, match="is there already"):
        write_rows(tmp_path / "rows.json", ROWS)
    assert (tmp_path / "rows.json").read_text() == "mine"


@pytest.mark.parametrize(
    ("name", "value"),
    [("r.csv", "half \ud83d"), ("r.jsonl", {1, 2}), ("r.json", Path("x")), ("r.jsonl", b"x"), ("r.json", float("nan"))],
)
def test_what_no_file_can_hold_is_said_and_leaves_no_file(name: str, value: object, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cannot be written") as caught:
        write_rows(tmp_path / name, [{"a": value}])
    assert "column" in caught.value.fix
    assert not list(tmp_path.iterdir())


def refused() -> Iterator[dict[str, str]]:
    yield {"a": "b"}
    raise DataError("the second row is none")


@pytest.mark.parametrize("name", ["new/er/rows.jsonl", "there/new/rows.jsonl", "there/rows.jsonl"])
def test_what_is_refused_leaves_no_folder_that_was_made_for_it(name: str, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    with pytest.raises(DataError, match="the second row is none"):
        write_rows(tmp_path / name, refused())
    assert [str(file.relative_to(tmp_path)) for file in tmp_path.rglob("*")] == ["there"]


def test_a_file_or_a_broken_link_in_the_way_is_named_with_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    (tmp_path / "link.jsonl").symlink_to("nowhere")
    with pytest.raises(DataError, match=r"rows.jsonl cannot be written: .*file is no folder") as caught:
        write_rows(tmp_path / "file/below/rows.jsonl", ROWS)
    assert caught.value.fix == "give another --out"
    with pytest.raises(DataError, match=r"link.jsonl is there already") as caught:
        write_rows(tmp_path / "link.jsonl", ROWS, option="--fix")
    assert caught.value.fix == "give another --fix"


def test_a_disk_that_is_full_is_told_and_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskError, match=r"rows.jsonl cannot be written: No space left on device"):
        write_rows(tmp_path / "new/rows.jsonl", ROWS)
    assert not list(tmp_path.iterdir())


def test_other_kinds_of_file_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"rows are written as .jsonl, .json, .csv"):
        write_rows(tmp_path / "rows.parquet", ROWS)


@pytest.mark.parametrize("name", ["r.jsonl", "r.json"])
def test_half_a_surrogate_pair_is_written_as_it_was_read(tmp_path: Path, name: str) -> None:
    rows = [{"id": "\ud800", "instruction": "鱼", "output": "a"}]
    write_rows(tmp_path / name, rows)
    assert [row.fields for row in read_rows(str(tmp_path / name))] == rows
