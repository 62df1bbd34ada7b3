import bz2
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest

from graft.data import content_hash, read_rows
from graft.data.sources import _to_train_on
from graft.errors import DataError

ROW = '{"instruction": "q", "output": "a"}\n'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three files of rows, and what is none."""
    (tmp_path / "deeper").mkdir()
    (tmp_path / "b.jsonl").write_text(ROW * 2)
    (tmp_path / "a.json").write_text(f"[{ROW}]")
    (tmp_path / "deeper" / "c.csv").write_text("instruction,output\nq,a\n")
    (tmp_path / "README.md").write_text("no data")
    (tmp_path / ".hidden.jsonl").write_text("no data")
    (tmp_path / "dataset_infos.json").write_text("{}")
    return tmp_path


def sources(path: str) -> list[str]:
    return [str(row.source) for row in read_rows(path)]


def test_a_folder_gives_the_rows_of_its_files_in_order(folder: Path) -> None:
    found = sources(str(folder))
    assert found == [f"{folder}/a.json:1", f"{folder}/b.jsonl:1", f"{folder}/b.jsonl:2", f"{folder}/deeper/c.csv:2"]


def test_a_glob_gives_those_that_it_fits(folder: Path) -> None:
    assert sources(f"{folder}/[ab].json*") == sources(str(folder))[:3]
    assert sources(f"{folder}/**/c.*") == sources(str(folder))[3:]
    with pytest.raises(DataError, match=r"no file is called .*\*\.xml"):
        sources(f"{folder}/*.xml")


def test_a_folder_with_an_empty_file_names_it(folder: Path) -> None:
    (folder / "z.jsonl").write_text("")
    with pytest.raises(DataError, match=r"z\.jsonl is empty"):
        sources(str(folder))


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_packed_files_are_read_as_they_are(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    for name, content in (("r.jsonl", ROW * 3), ("r.json", f"[\n{ROW}]"), ("r.csv", "instruction,output\nq,a\n")):
        plain, packed = tmp_path / name, tmp_path / f"{name}{suffix}"
        plain.write_text(content)
        packed.write_bytes(pack(content.encode()))
        assert [(r.source.line, r.fields) for r in read_rows(str(packed))] == [
            (r.source.line, r.fields) for r in read_rows(str(plain))
        ]


@pytest.mark.parametrize(("suffix", "pack"), [(".gz", gzip.compress), (".bz2", bz2.compress), (".xz", lzma.compress)])
def test_a_packed_file_that_is_broken_is_refused(tmp_path: Path, suffix: str, pack: Callable[[bytes], bytes]) -> None:
    file = tmp_path / f"rows.jsonl{suffix}"
    packed = pack((ROW * 5000).encode())
    for content in (packed[: len(packed) // 2], packed[:20] + b"\0\0\0\0" + packed[24:], ROW.encode()):
        file.write_bytes(content)
        with pytest.raises(DataError) as caught:
            sources(str(file))
        assert str(file) in caught.value.what


@pytest.mark.parametrize(("name", "command"), [("rows.jsonl.zst", "zstd -d"), ("rows.zip", "unzip")])
def test_a_packing_that_is_not_read_names_the_way_out(tmp_path: Path, name: str, command: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(DataError) as caught:
        sources(str(tmp_path / name))
    assert command in caught.value.fix


def test_the_hash_is_that_of_names_and_contents(folder: Path) -> None:
    before = content_hash(str(folder))
    assert before == content_hash(str(folder))
    assert content_hash(str(folder / "b.jsonl")) != before
    (folder / "b.jsonl").write_text(ROW * 3)
    assert content_hash(str(folder)) != before


# The hub


def test_a_data_set_of_the_hub_is_downloaded_and_its_training_files_are_taken(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, dict[str, Any]]] = []

    def download(name: str, **options: Any) -> str:
        asked.append((name, options))
        return str(folder)

    monkeypatch.setattr("graft.data.sources.snapshot_download", download)
    assert len(sources("someone/some-rows")) == 4
    assert asked[0][0] == "someone/some-rows"
    assert asked[0][1]["repo_type"] == "dataset"


def test_of_the_hubs_files_those_to_train_on_are_taken() -> None:
    files = [Path(name) for name in ("x/data/test-0.parquet", "x/data/train-0.parquet", "x/train.jsonl")]
    assert _to_train_on(files) == [files[1]]
    assert _to_train_on([Path("x/a.json"), Path("x/b.json")]) == [Path("x/a.json"), Path("x/b.json")]


def test_without_a_network_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(DataError) as caught:
        sources("someone/some-rows")
    assert "someone/some-rows does not exist here, and the hub cannot be reached" in caught.value.what
    assert "network" in caught.value.fix


def test_a_path_that_is_not_there_is_not_taken_for_a_hub_id() -> None:
    with pytest.raises(DataError, match=r"data/rows\.jsonl does not exist"):
        sources("data/rows.jsonl")


def test_links_that_lead_back_give_no_file_twice(tmp_path: Path) -> None:
    (tmp_path / "deeper").mkdir()
    (tmp_path / "deeper" / "r.jsonl").write_text(ROW)
    (tmp_path / "deeper" / "up").symlink_to(tmp_path, target_is_directory=True)
    for named in (tmp_path, f"{tmp_path}/**", f"{tmp_path}/**/*.jsonl"):
        assert sources(str(named)) == [f"{tmp_path}/deeper/r.jsonl:1"]


def test_a_pipe_or_a_device_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for named in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(DataError, match="cannot be read twice") as caught:
            sources(str(named))
        assert "to a file" in caught.value.fix
