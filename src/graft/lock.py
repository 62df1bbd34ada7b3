"""A run's folder has one writer.

The lock is the operating system's on `.lock`, which vanishes with the process that holds it, however that ends; who it
is stands beside it. flock(2) says where it holds: among the processes of one machine on local file systems, and across
machines on NFS since Linux 2.6.12 and CIFS since 5.5. Where a file system has no such locks, `filelock` keeps a file in
their place.
"""

import errno
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from graft.errors import RunError, write_error
from graft.staging import replace_file

_LOCK, _HOLDER = ".lock", ".lock.json"
_PATIENCE = 1.0  # seconds; somebody who only looks whether it is held holds it for less


@contextmanager
def locked(folder: Path, say: Callable[[str], None]) -> Iterator[None]:
    """Hold the lock of `folder`, which exists, for this block.

    Args:
        say: is told of a lock that a dead process left.

    Raises:
        RunError: another process holds it.
    """
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=_PATIENCE)
    except Timeout:
        raise _held(folder) from None
    try:
        if (folder / _HOLDER).exists():
            say(f"{folder}: {_holder(folder)} ended without letting go of it; its lock is void")
        now = datetime.now(UTC).isoformat(timespec="seconds")
        holder = {"pid": os.getpid(), "host": socket.gethostname(), "since": now}
        replace_file(folder / _HOLDER, json.dumps(holder).encode())
        yield
    finally:
        (folder / _HOLDER).unlink(missing_ok=True)
        lock.release()


def refuse_locked(folder: Path) -> None:
    """Raise a RunError if another process holds the lock of `folder`. Nothing is written."""
    if not (folder / _LOCK).exists():
        return
    lock = FileLock(folder / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise _held(folder) from None
    except OSError as error:
        if error.errno in (errno.EROFS, errno.EACCES):  # who can write nothing there is only here to read
            return
        raise write_error(str(folder), error, fix="give another --out") from None
    lock.release()


def _held(folder: Path) -> RunError:
    return RunError(f"{folder} is being written by {_holder(folder)}", fix="wait for it, or give another --out")


def _holder(folder: Path) -> str:
    try:
        said = json.loads((folder / _HOLDER).read_bytes())
        return f"process {said['pid']} on {said['host']}, since {said['since']},"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"
