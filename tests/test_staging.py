import errno
import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from graft.errors import DiskError
from graft.staging import (
    MANIFEST,
    append_line,
    check_room,
    manifest_fault,
    remove_folder,
    replace_file,
    staged,
    sweep,
    write_file,
    write_manifest,
)


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


def test_who_was_sooner_keeps_the_place(tmp_path: Path) -> None:
    target = tmp_path / "result"

    def both() -> None:
        with staged(target) as slower:
            (slower / "a.txt").write_text("slower")
            with staged(target) as sooner:
                (sooner / "a.txt").write_text("sooner")

    with pytest.raises(FileExistsError, match="in use"):
        both()
    assert (target / "a.txt").read_text() == "sooner"
    assert names(tmp_path) == ["result"]


DIES = """
import os, sys
from pathlib import Path
from graft.staging import staged

with staged(Path(sys.argv[1])) as folder:
    (folder / "half.txt").write_text("half of it")
    print(folder, flush=True)
    sys.stdin.readline()
"""


@contextmanager
def writer(target: Path) -> Iterator[tuple[Path, subprocess.Popen[str]]]:
    """A process that writes `target`, killed at the end, and its folder."""
    with subprocess.Popen(
        [sys.executable, "-c", DIES, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            yield Path(process.stdout.readline().rstrip("\n")), process
        finally:
            process.kill()


def write(target: Path) -> None:
    with staged(target, replace=True) as folder:
        (folder / "a.txt").write_text("whole")


def test_what_a_killed_process_left_is_removed_by_the_next_that_writes_the_same(tmp_path: Path) -> None:
    target = tmp_path / "result"
    with writer(target) as (dead, _), writer(tmp_path / "other") as (others, _):
        pass
    assert (dead / "half.txt").exists()
    write(target)
    assert names(tmp_path) == sorted([others.name, "result"])
    write(tmp_path / "other")
    assert names(tmp_path) == ["other", "result"]


def test_what_a_living_process_writes_is_left_to_it(tmp_path: Path) -> None:
    target = tmp_path / "result"
    with writer(target) as (living, process):
        write(target)
        assert (living / "half.txt").exists()
        shutil.rmtree(target)
        process.communicate("go on\n")
        assert process.returncode == 0
    assert names(target) == ["half.txt"]
    assert names(tmp_path) == ["result"]


def test_what_was_moved_aside_goes_where_the_new_is_there_and_else_is_put_back(tmp_path: Path) -> None:
    """As a kill right after the two renames, or between them, leaves it."""
    target, aside = tmp_path / "result", tmp_path / ".result.staged-0123abc_.old"
    write(target)
    shutil.copytree(target, aside)
    (aside / "a.txt").write_text("old")
    sweep(tmp_path, "other")
    assert aside.exists()
    sweep(tmp_path, "result")
    assert names(tmp_path) == ["result"]
    assert (target / "a.txt").read_text() == "whole"
    target.rename(aside)
    unfinished = aside.with_suffix("")
    unfinished.mkdir()
    sweep(tmp_path)
    assert names(tmp_path) == ["result"]
    assert (target / "a.txt").read_text() == "whole"


def test_a_link_is_replaced_and_what_it_points_to_stays(tmp_path: Path) -> None:
    mine, target = tmp_path / "mine", tmp_path / "result"
    write(mine)
    target.symlink_to(mine)
    write(target)
    assert names(tmp_path) == ["mine", "result"]
    assert not target.is_symlink()
    shutil.rmtree(target)
    target.symlink_to(mine)
    remove_folder(target)
    assert names(tmp_path) == ["mine"]
    assert names(mine) == ["a.txt"]


def test_several_may_write_the_same_at_once_and_one_of_them_stays_whole(tmp_path: Path) -> None:
    target = tmp_path / "result"

    def write_often(writer: int) -> None:
        for number in range(60):
            with staged(target, replace=True) as folder:
                for name in "ab":
                    (folder / name).write_text(f"{writer} {number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write_often, range(4)))
    assert names(tmp_path) == ["result"]
    assert (target / "a").read_text() == (target / "b").read_text()


def test_only_what_was_staged_is_taken_for_it(tmp_path: Path) -> None:
    mine = [".result.settings", ".result.staged-mine", ".result.staged-01234567.new", ".result2.staged-01234567"]
    for name in mine:
        (tmp_path / name).mkdir()
    (tmp_path / ".result.staged-aaaaaaaa").symlink_to(tmp_path / mine[0])
    write(tmp_path / "result")
    assert names(tmp_path) == sorted([*mine, ".result.staged-aaaaaaaa", "result"])


def test_where_locks_are_refused_nothing_is_taken_for_dead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(descriptor: int, how: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    (tmp_path / ".result.staged-01234567").mkdir()
    monkeypatch.setattr(fcntl, "flock", refuse)
    write(tmp_path / "result")
    assert names(tmp_path) == [".result.staged-01234567", "result"]


@pytest.mark.parametrize("before_it_is_opened", [True, False])
def test_a_folder_that_is_swept_before_it_is_locked_is_made_again(
    before_it_is_opened: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, lock, swept = tempfile.mkdtemp, fcntl.flock, []

    def sweep() -> None:
        if not swept:
            swept.extend(tmp_path.iterdir())
            swept[0].rmdir()

    def made(**named: Any) -> str:
        folder = make(**named)
        if before_it_is_opened:
            sweep()
        return folder

    def locked(descriptor: int, how: int) -> None:
        sweep()
        lock(descriptor, how)

    monkeypatch.setattr(tempfile, "mkdtemp", made)
    monkeypatch.setattr(fcntl, "flock", locked)
    write(tmp_path / "result")
    assert len(swept) == 1
    assert names(tmp_path) == ["result"]


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    write(tmp_path / "result")
    with pytest.raises(KeyError):
        fail(tmp_path / "other", KeyError)
    assert os.listdir("/proc/self/fd") == before


def test_what_is_replaced_comes_back_when_the_new_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "result"
    with staged(target) as folder:
        (folder / "a.txt").write_text("old")
    rename, renamed = os.rename, []

    def fail_second(source: Path, goal: Path) -> None:
        renamed.append(goal)
        if len(renamed) == 2:
            raise KeyboardInterrupt
        rename(source, goal)

    def replace() -> None:
        with staged(target, replace=True) as folder:
            (folder / "a.txt").write_text("new")

    monkeypatch.setattr(os, "rename", fail_second)
    with pytest.raises(KeyboardInterrupt):
        replace()
    assert (target / "a.txt").read_text() == "old"
    assert names(tmp_path) == ["result"]


def test_a_file_is_replaced_as_a_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    replace_file(path, b"old")
    replace_file(path, [b"n", memoryview(b"ew"), b""])
    assert path.read_bytes() == b"new"

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        replace_file(path, b"newer")
    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["file"]


def test_a_system_that_takes_little_at_once_gets_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:3]))
    write_file(tmp_path / "file", [b"0123456789", memoryview(b"abcdefg")])
    append_line(tmp_path / "file", "line")
    assert (tmp_path / "file").read_bytes() == b"0123456789abcdefgline\n"


def test_room_is_asked_for_where_the_folder_will_be(tmp_path: Path) -> None:
    free = shutil.disk_usage(tmp_path).free
    check_room(tmp_path / "not" / "yet", 1, "it", fix="")
    with pytest.raises(DiskError, match=rf"it takes .* MB, and {tmp_path} has .* left\n  -> make room"):
        check_room(tmp_path / "not" / "yet", 2 * free, "it", fix="make room")


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
        (b"[" * 100_000, "is not JSON"),
        (b'{"weights.bin": "0"}', "is not the file that was written"),
        (b'{\n "../x": "0"\n}\n', "names a file outside"),
        (b'{\n "/etc/hostname": "0"\n}\n', "names a file outside"),
    ],
    ids=["missing", "empty", "cut", "not text", "no file", "a list", "deep", "other spaces", "above", "elsewhere"],
)
def test_a_manifest_that_vouches_for_nothing_is_a_fault(vouched: Path, content: bytes | None, fault: str) -> None:
    if content is None:
        (vouched / MANIFEST).unlink()
    else:
        (vouched / MANIFEST).write_bytes(content)
    found = manifest_fault(vouched)
    assert MANIFEST in found
    assert fault in found


def test_a_manifest_without_its_last_byte_is_found(vouched: Path) -> None:
    content = (vouched / MANIFEST).read_bytes()
    (vouched / MANIFEST).write_bytes(content[:-1])
    assert MANIFEST in manifest_fault(vouched)


def test_a_file_that_may_have_changed_is_passed_over(vouched: Path) -> None:
    (vouched / "inner" / "state.json").write_text("mine")
    assert "state.json" in manifest_fault(vouched)
    assert manifest_fault(vouched, but=["inner/state.json"]) == ""
