import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from graft.errors import RunError
from graft.lock import locked, refuse_locked

HOLD = """
import sys
from pathlib import Path
from graft.lock import locked
with locked(Path(sys.argv[1]), print):
    print("held", flush=True)
    sys.stdin.read()
"""


def holder(folder: Path) -> "subprocess.Popen[str]":
    """A process that holds the lock of `folder` until its input ends."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    return process


def said_of(folder: Path) -> list[str]:
    said: list[str] = []
    with locked(folder, said.append):
        pass
    return said


def test_another_process_is_kept_out_and_told_who_is_in(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        since = json.loads((tmp_path / ".lock.json").read_text())["since"]
        for attempt in (lambda: said_of(tmp_path), lambda: refuse_locked(tmp_path)):
            with pytest.raises(RunError) as caught:
                attempt()
            assert f"is being written by process {process.pid} on {os.uname().nodename}, since {since}" in str(
                caught.value
            )
    finally:
        process.communicate()
    refuse_locked(tmp_path)
    assert said_of(tmp_path) == []


def test_the_lock_of_a_dead_process_is_void_and_that_is_said(tmp_path: Path) -> None:
    process = holder(tmp_path)
    process.kill()
    process.communicate()
    refuse_locked(tmp_path)
    (said,) = said_of(tmp_path)
    assert f"process {process.pid} on " in said
    assert "its lock is void" in said
    assert said_of(tmp_path) == []


def test_looking_writes_nothing(tmp_path: Path) -> None:
    refuse_locked(tmp_path)
    assert not list(tmp_path.iterdir())


def test_where_nothing_can_be_written_nobody_writes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / ".lock").touch()

    def refuse(number: int) -> None:
        def opened(path: object, *rest: object, **named: object) -> int:
            raise OSError(number, os.strerror(number), str(path))

        monkeypatch.setattr(os, "open", opened)

    refuse(errno.EROFS)
    refuse_locked(tmp_path)
    refuse(errno.EIO)
    with pytest.raises(RunError, match=f"{tmp_path} cannot be written: Input/output error"):
        refuse_locked(tmp_path)


def test_a_holder_who_did_not_say_who_it_is(tmp_path: Path) -> None:
    process = holder(tmp_path)
    try:
        (tmp_path / ".lock.json").write_text("{")
        with pytest.raises(RunError, match="being written by another process"):
            refuse_locked(tmp_path)
    finally:
        process.communicate()


def test_an_error_lets_go(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path, print):
        raise KeyError
    assert said_of(tmp_path) == []
