import json
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from graft.data.cache import _UNUSED, content_hash, file_hash, recall, remember
from graft.data.corpus import CorpusBuilder
from graft.data.encoder import Encoded, Encoder
from graft.errors import DataError
from graft.records import Conversation
from graft.staging import sha256
from tests.data.characters import Characters
from tests.data.test_encode import TEMPLATE, conversation

KEY = {"data": "a", "cutoff": 20}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def rows() -> list[Conversation]:
    return [conversation("q", "a" * number, line=number) for number in range(1, 30)]


def encode(builder: CorpusBuilder) -> Encoded:
    encoder = Encoder(TEMPLATE, Characters(), cutoff=20, too_long="cut", builder=builder, notes=["read as pairs"])
    encoder.add(rows())
    return encoder.finish()


def entry(folder: Path) -> Path:
    (only,) = (folder / "encoded").iterdir()
    return only


def test_what_is_remembered_is_recalled_by_its_key_alone(folder: Path) -> None:
    assert recall(KEY) is None
    made = remember(KEY, encode)
    in_memory = encode(CorpusBuilder())
    for encoded in (made, recall(KEY)):
        assert encoded is not None
        assert list(encoded.samples) == list(in_memory.samples)
        assert encoded.samples.keys.tolist() == in_memory.samples.keys.tolist()
        assert (encoded.long, encoded.rows, encoded.cutoff) == (in_memory.long, 29, 20)
        assert encoded.notes == ["read as pairs"]
        assert encoded.report() == in_memory.report() != ""
    assert recall({**KEY, "cutoff": 21}) is None


FILES = ["ids", "marks", "ends", "lines", "corpus.json", "encoded.json", "MANIFEST.json", "stamps.json"]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("spoil", [bytes.upper, lambda content: content[:-1], lambda content: b""])
def test_what_was_changed_is_encoded_anew(folder: Path, name: str, spoil: Callable[[bytes], bytes]) -> None:
    whole = list(remember(KEY, encode).samples)
    file = entry(folder) / name
    content = file.read_bytes()
    bits = bytes([content[0] ^ 1]) + content[1:]
    file.write_bytes(bits if spoil is bytes.upper else spoil(content))
    found = recall(KEY)
    assert found is None or (name in ("MANIFEST.json", "stamps.json") and list(found.samples) == whole)
    assert list(remember(KEY, encode).samples) == whole
    again = recall(KEY)
    assert again is not None
    assert list(again.samples) == whole


def test_an_entry_that_was_copied_is_held_against_its_hashes(folder: Path, tmp_path: Path) -> None:
    whole = list(remember(KEY, encode).samples)
    target = entry(folder)
    os.rename(target, tmp_path / "copy")
    shutil.copytree(tmp_path / "copy", target)  # other times and inodes
    found = recall(KEY)
    assert found is not None
    assert list(found.samples) == whole
    content = (target / "ids").read_bytes()
    (target / "ids").write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert recall(KEY) is None


def test_what_fails_leaves_nothing(folder: Path) -> None:
    def fails(builder: CorpusBuilder) -> Encoded:
        encode(builder)
        raise DataError("a row is broken")

    with pytest.raises(DataError, match="a row is broken"):
        remember(KEY, fails)
    assert list((folder / "encoded").iterdir()) == []


def test_a_full_disk_is_said_with_the_way_out(folder: Path) -> None:
    def full(builder: CorpusBuilder) -> Encoded:
        raise OSError(28, "No space left on device")

    with pytest.raises(DataError, match="No space left") as caught:
        remember(KEY, full)
    assert "GRAFT_CACHE" in caught.value.fix


def test_what_nobody_asks_for_is_removed_when_something_is_added(folder: Path) -> None:
    remember(KEY, encode)
    old = entry(folder)
    os.utime(old, (time.time() - _UNUSED - 60,) * 2)
    remember({**KEY, "data": "b"}, encode)
    assert entry(folder) != old
    assert recall(KEY) is None


def test_a_file_is_read_once_and_again_when_it_was_written(tmp_path: Path, folder: Path) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("{}")
    assert file_hash(file) == sha256(file)
    assert not (folder / "hashes").exists(), "written a moment ago: another write might have the same time"
    _age(file)
    assert file_hash(file) == content_hash(str(file)) == sha256(file)
    (memo,) = (folder / "hashes").iterdir()
    content = json.loads(memo.read_text())
    memo.write_text(json.dumps({**content, "sha256": "remembered"}))
    assert file_hash(file) == "remembered"
    stamp = file.stat()
    file.write_text("[]")
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))  # as size and time are the same, the second time tells
    assert file_hash(file) == sha256(file) != content["sha256"]


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_a_broken_memo_is_no_memo(tmp_path: Path, folder: Path, content: str) -> None:
    file = tmp_path / "rows.jsonl"
    file.write_text("{}")
    _age(file)
    file_hash(file)
    (memo,) = (folder / "hashes").iterdir()
    memo.write_text(content)
    assert file_hash(file) == sha256(file)


def _age(file: Path) -> None:
    """Wait, by the clock of the cache, until the file is settled."""
    aged = time.time() + 10
    time_before, time.time = time.time, lambda: aged
    try:
        file_hash(file)
    finally:
        time.time = time_before
