from pathlib import Path

import pytest

from graft.staging import MANIFEST, manifest_fault, staged, write_manifest


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_when_the_block_ends(tmp_path: Path) -> None:
    target = tmp_path / "runs" / "result"
    with staged(target) as folder:
        (folder / "part").mkdir()
        (folder / "part" / "a.txt").write_text("a")
        assert not target.exists()
    assert (target / "part" / "a.txt").read_text() == "a"
    assert names(tmp_path / "runs") == ["result"]


def fail(target: Path, error: type[BaseException]) -> None:
    with staged(target, replace=True) as folder:
        (folder / "a.txt").write_text("half of it")
        raise error


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_inside_leaves_nothing(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error):
        fail(tmp_path / "result", error)
    assert names(tmp_path) == []


def test_an_error_inside_leaves_what_was_to_be_replaced(tmp_path: Path) -> None:
    target = tmp_path / "result"
    with staged(target) as folder:
        (folder / "a.txt").write_text("old")
    with pytest.raises(KeyError):
        fail(target, KeyError)
    assert (target / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["result"]


def test_what_is_there_is_replaced_as_a_whole_and_only_if_it_may_be(tmp_path: Path) -> None:
    target = tmp_path / "result"
    with staged(target) as folder:
        (folder / "old.txt").write_text("old")
    with pytest.raises(FileExistsError), staged(target):
        pytest.fail("the block must not run")
    with staged(target, replace=True) as folder:
        (folder / "new.txt").write_text("new")
    assert names(target) == ["new.txt"]
    assert names(tmp_path) == ["result"]


def test_others_may_read_a_result_as_they_may_its_parent(tmp_path: Path) -> None:
    with staged(tmp_path / "result"):
        pass
    assert (tmp_path / "result").stat().st_mode & 0o777 == 0o755


@pytest.fixture
def vouched(tmp_path: Path) -> Path:
    (tmp_path / "inner").mkdir()
    (tmp_path / "weights.bin").write_bytes(bytes(range(256)) * 8)
    (tmp_path / "inner" / "state.json").write_text("{}")
    write_manifest(tmp_path)
    return tmp_path


def test_a_whole_folder_has_no_fault(vouched: Path) -> None:
    assert manifest_fault(vouched) == ""
    write_manifest(vouched)  # a second time: the manifest does not vouch for itself
    assert manifest_fault(vouched) == ""


@pytest.mark.parametrize("place", [0, 1000, 2047])
def test_one_flipped_bit_is_found(vouched: Path, place: int) -> None:
    content = bytearray((vouched / "weights.bin").read_bytes())
    content[place] ^= 1
    (vouched / "weights.bin").write_bytes(content)
    assert "weights.bin" in manifest_fault(vouched)


def test_a_truncated_a_missing_and_a_swapped_file_are_found(vouched: Path) -> None:
    content = (vouched / "weights.bin").read_bytes()
    (vouched / "weights.bin").write_bytes(content[:-1])
    assert "weights.bin" in manifest_fault(vouched)
    (vouched / "weights.bin").write_bytes(content)
    assert manifest_fault(vouched) == ""
    (vouched / "inner" / "state.json").unlink()
    assert "state.json is missing" in manifest_fault(vouched)


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (None, "is missing"),
        (b"", "is not JSON"),
        (b'{"weights.bin": "', "is not JSON"),
        (b"\xff\xfe\x00", "is not JSON"),
        (b"{}", "lists no file"),
        (b"[]", "lists no file"),
    ],
    ids=["missing", "empty", "cut", "not text", "no file", "a list"],
)
def test_a_manifest_that_vouches_for_nothing_is_a_fault(vouched: Path, content: bytes | None, fault: str) -> None:
    if content is None:
        (vouched / MANIFEST).unlink()
    else:
        (vouched / MANIFEST).write_bytes(content)
    found = manifest_fault(vouched)
    assert MANIFEST in found
    assert fault in found
