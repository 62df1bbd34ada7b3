"""Folders that appear whole or not at all, and are known to be whole when they are read again."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

MANIFEST = "MANIFEST.json"


@contextmanager
def staged(target: Path, *, replace: bool = False) -> Iterator[Path]:
    """A folder beside `target` to write into; flushed and renamed to `target` when the block ends without an error.

    Args:
        replace: `target` may exist and is replaced.

    Raises:
        FileExistsError: `target` is there and may not be replaced.
    """
    if target.exists() and not replace:
        raise FileExistsError(str(target))
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    try:
        folder.chmod(0o755)  # mkdtemp gives 0700; a result is as readable as its parent
        yield folder
        _flush(folder)
        replaced = folder.with_name(f"{folder.name}.old")
        if target.exists():
            target.rename(replaced)  # aside, not away: if we die here, nothing is lost
        folder.rename(target)
        _flush_folder(target.parent)
        shutil.rmtree(replaced, ignore_errors=True)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise


def write_manifest(folder: Path) -> None:
    """Write the SHA-256 of every file of `folder`; last, so that a manifest vouches for all the rest."""
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file() and p.name != MANIFEST)
    (folder / MANIFEST).write_text(json.dumps({name: sha256(folder / name) for name in names}, indent=1) + "\n")


def manifest_fault(folder: Path) -> str:
    """Why `folder` is not what its manifest says; "" where it is."""
    try:
        manifest = json.loads((folder / MANIFEST).read_text())
    except FileNotFoundError:
        return f"{folder / MANIFEST} is missing"
    except ValueError:
        return f"{folder / MANIFEST} is not JSON"
    if not isinstance(manifest, dict) or not manifest:
        return f"{folder / MANIFEST} lists no file"
    for name, digest in manifest.items():
        path = folder / name
        if not path.is_file():
            return f"{path} is missing"
        if sha256(path) != digest:
            return f"{path} is not the file that was written (SHA-256 differs)"
    return ""


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _flush(folder: Path) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb+") as file:
                os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
