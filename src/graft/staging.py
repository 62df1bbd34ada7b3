"""Files and folders that appear whole or not at all, and are known to be whole when they are read again.

Whatever must survive a crash is written here, by the calls of the operating system and nothing in between.

A folder that is being written is locked by its process, by flock(2), and what a dead process left is removed by the
next that writes the same. Where a file system refuses such locks, nobody knows who lives, and nothing is removed.
"""

import errno
import fcntl
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path, PurePosixPath
from typing import Any

from graft.errors import DiskError

MANIFEST = "MANIFEST.json"

_STAGED = ".staged-"  # between the name of the target and mkdtemp's: nothing else is named so

Content = bytes | Iterable[bytes | memoryview]
"""Of a file: all of it, or its pieces one after the other."""


def write_file(path: Path, content: Content) -> None:
    """Write a file. It is not flushed: `staged` flushes all of a folder together."""
    _write(path, content, os.O_TRUNC)


def replace_file(path: Path, content: Content) -> None:
    """Put a file in the place of the one at `path`, if there is one: at any moment the old or the new is there."""
    partial = path.with_name(f".{path.name}.partial")
    try:
        _write(partial, content, os.O_TRUNC, flush=True)
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)


def append_line(path: Path, line: str) -> None:
    """Add a line to a file, by one call where the system takes it whole."""
    _write(path, f"{line}\n".encode(), os.O_APPEND)


def flush_file(path: Path) -> None:
    """See that what is written in `path` is on the disk."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _write(path: Path, content: Content, mode: int, *, flush: bool = False) -> None:
    pieces = [content] if isinstance(content, bytes) else content
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | mode, 0o666)
    try:
        for piece in pieces:
            left = memoryview(piece)
            while left:
                left = left[os.write(descriptor, left) :]
        if flush:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, where they are not there, so that it outlives a loss of power."""
    if not path.is_dir():
        make_folder(path.parent)
        path.mkdir(exist_ok=True)
        _flush_folder(path.parent)


@contextmanager
def staged(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder beside `target` to write into; flushed and renamed to `target` when the block ends without an error.

    Args:
        replace: `target` may exist and is replaced.

    Raises:
        FileExistsError: `target` is there, or has come meanwhile, and may not be replaced.
    """
    sweep(target.parent, target.name)
    if target.exists() and not replace:
        raise FileExistsError(errno.EEXIST, "is in use", str(target))
    make_folder(target.parent)
    folder, lock = _claim(target)
    try:
        folder.chmod(0o755)  # mkdtemp gives 0700; a result is as readable as its parent
        yield folder
        _flush(folder)
        _put_in_place(folder, target, replace=replace)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    finally:
        os.close(lock)


def _claim(target: Path) -> tuple[Path, int]:
    """A new folder beside `target`, and the descriptor that holds its lock until it is closed."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=f".{target.name}{_STAGED}", dir=target.parent))
        with suppress(FileNotFoundError):  # another that sweeps was sooner than the lock
            lock = os.open(folder, os.O_RDONLY)
            with suppress(OSError):
                fcntl.flock(lock, fcntl.LOCK_EX)
            if folder.exists():
                return folder, lock
            os.close(lock)


def sweep(parent: Path, name: str | None = None) -> None:
    """Remove what dead processes left in `parent` that staged `name`, or anything; what they had moved aside and not
    yet replaced is put back."""
    named = re.compile(rf"\.({re.escape(name) if name else '.+'}){re.escape(_STAGED)}[a-z0-9_]{{8}}(\.old)?")
    found = [named.fullmatch(path.name) for path in parent.iterdir()] if parent.is_dir() else []
    for left in sorted(filter(None, found), key=lambda left: left[0]):  # X before X.old
        folder, target = parent / left[0], parent / left[1]
        if not left[2]:
            _remove_unless_locked(folder)
        elif not folder.with_suffix("").exists():
            with suppress(OSError):
                remove_folder(folder) if target.exists() else folder.rename(target)


def remove_folder(folder: Path) -> None:
    """Remove a folder with all that is in it; of a link to one, the link."""
    folder.unlink() if folder.is_symlink() else shutil.rmtree(folder)


def _remove_unless_locked(folder: Path) -> None:
    with suppress(OSError):
        lock = os.open(folder, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder, ignore_errors=True)
        finally:
            os.close(lock)


def _put_in_place(folder: Path, target: Path, *, replace: bool) -> None:
    replaced = folder.with_name(f"{folder.name}.old")
    try:
        while not _has_replaced(folder, target, replaced if replace else None):
            if replaced.exists():
                remove_folder(replaced)  # another process put its own in the place; ours is the later one
    except BaseException:
        if replaced.exists() and not target.exists():
            replaced.rename(target)
        raise
    _flush_folder(target.parent)
    sweep(target.parent, target.name)


def _has_replaced(folder: Path, target: Path, aside: Path | None) -> bool:
    """Rename `folder` to `target`; False where another came between what was there going `aside` and that."""
    if target.exists():
        if not aside:
            raise FileExistsError(errno.EEXIST, "is in use", str(target))
        with suppress(FileNotFoundError):
            target.rename(aside)  # not away: if we die here, nothing is lost
    try:
        folder.rename(target)
    except OSError as error:
        if not aside or error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True


def check_room(folder: Path, needed: int, what: str, *, fix: str) -> None:
    """Raise a DiskError if fewer than `needed` bytes are free where `folder` is, or will be."""
    there = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    free = shutil.disk_usage(there).free
    if free < needed:
        raise DiskError(f"{what} takes {_megabytes(needed)}, and {there} has {_megabytes(free)} left", fix=fix)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


def write_manifest(folder: Path) -> None:
    """Write the SHA-256 of every file of `folder`; last, so that a manifest vouches for all the rest."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    write_file(folder / MANIFEST, _as_written({name: sha256(folder / name) for name in names}))


def _as_written(manifest: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(manifest, indent=1)}\n".encode()


def manifest_fault(folder: Path, *, but: Iterable[str] = ()) -> str:
    """Why `folder` is not what its manifest says; "" where it is.

    Args:
        but: files that may have changed.
    """
    try:
        content = (folder / MANIFEST).read_bytes()
        manifest = json.loads(content)
    except FileNotFoundError:
        return f"{folder / MANIFEST} is missing"
    except OSError as error:
        return f"{folder / MANIFEST} cannot be read: {error.strerror}"
    except (ValueError, RecursionError):
        return f"{folder / MANIFEST} is not JSON"
    if not isinstance(manifest, dict) or not manifest:
        return f"{folder / MANIFEST} lists no file"
    if content != _as_written(manifest):
        return f"{folder / MANIFEST} is not the file that was written"  # cut by its last byte, it is JSON still
    faults = (_file_fault(folder, name, digest) for name, digest in manifest.items() if name not in but)
    return next(filter(None, faults), "")


def _file_fault(folder: Path, name: str, digest: object) -> str:
    path = folder / name
    if ".." in PurePosixPath(name).parts or not path.is_relative_to(folder):
        return f"{folder / MANIFEST} names a file outside: {name}"
    try:
        if not path.is_file():
            return f"{path} is missing"
        if sha256(path) != digest:
            return f"{path} is not the file that was written (SHA-256 differs)"
    except (OSError, ValueError) as error:
        return f"{path} cannot be read: {error}"
    return ""


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(folder: Path) -> None:
    """All files, then the folders that name them."""
    inside = list(folder.rglob("*"))
    for path in inside:
        if path.is_file():
            flush_file(path)
    for path in (*(path for path in inside if path.is_dir()), folder):
        _flush_folder(path)


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
