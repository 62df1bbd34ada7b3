"""Encoded rows, kept on disk by what they were made of: the same data, template and tokenizer are not encoded twice.

CACHE/encoded/KEY/     the arrays of a `Corpus`, what did not fit, MANIFEST.json, stamps.json
CACHE/hashes/NAME      the SHA-256 of a data file, and the stamp of the file that had it
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from graft.data.corpus import Corpus, CorpusBuilder
from graft.data.encoder import Encoded, Long
from graft.data.sources import find_files
from graft.errors import DataError
from graft.records import Source
from graft.runtime import cache_folder
from graft.staging import manifest_fault, sha256, staged, write_manifest

_INDEX, _STAMPS = "encoded.json", "stamps.json"
_SETTLED = 2.0  # seconds after which another write gives a file another time, on every file system
_UNUSED = 30 * 24 * 3600  # seconds after which nobody will ask for an entry again
_LIBRARIES = ("tokenizers", "transformers", "jinja2")  # they have a hand in the ids

Key = Mapping[str, Any]


def recall(key: Key) -> Encoded | None:
    """What was encoded with this very key; None where nothing was, or it is broken."""
    folder = _folder(key)
    try:
        if _stamps(folder) != json.loads((folder / _STAMPS).read_text()) and manifest_fault(folder):
            return None
        index = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
        long = [Long(row, Source(path, line), tokens, cut) for row, path, line, tokens, cut in index["long"]]
        encoded = Encoded(Corpus.open(folder), long, index["rows"], index["cutoff"], index["notes"])
        os.utime(folder)
    except (OSError, ValueError):
        return None
    return encoded


def remember(key: Key, encode: Callable[[CorpusBuilder], Encoded]) -> Encoded:
    """Encode into the cache, which holds all of it or nothing.

    Args:
        encode: is given a builder that writes to disk, so that what it makes may be larger than the memory.

    Raises:
        DataError: the disk is full, or the cache cannot be written.
    """
    target = _folder(key)
    try:
        _forget_unused(target.parent)
        with staged(target, replace=True) as folder:
            encoded = encode(CorpusBuilder(folder))
            long = [(long.row, long.source.path, long.source.line, long.tokens, long.cut) for long in encoded.long]
            index = {"rows": encoded.rows, "cutoff": encoded.cutoff, "notes": encoded.notes, "long": long, "key": key}
            (folder / _INDEX).write_text(json.dumps(index, ensure_ascii=False) + "\n", encoding="utf-8")
            write_manifest(folder)
            (folder / _STAMPS).write_text(json.dumps(_stamps(folder)))
    except OSError as error:
        fix = "free some space, name another folder in GRAFT_CACHE, or set data.cache=false to encode in memory"
        raise DataError(f"the encoded rows cannot be kept in {target.parent}: {error}", fix=fix) from None
    return recall(key) or encoded


def file_hash(file: Path) -> str:
    """SHA-256 of a file. One that has not changed since it was last asked for is not read again."""
    stamp = _stamp(file)
    memo = cache_folder() / "hashes" / hashlib.sha256(os.fsencode(file.resolve())).hexdigest()
    try:
        known = json.loads(memo.read_text())
        if known["stamp"] == stamp:
            return str(known["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        pass  # not asked for before, or broken
    digest = sha256(file)
    if _stamp(file) == stamp and time.time() - stamp[2] / 1e9 > _SETTLED:
        _write_memo(memo, {"file": str(file), "stamp": stamp, "sha256": digest})
    return digest


def content_hash(path: str) -> str:
    """SHA-256 of the file that `path` names, or of the names and contents of several."""
    files = find_files(path)
    if len(files) == 1:
        return file_hash(files[0])
    return hashlib.sha256("".join(f"{file.name} {file_hash(file)}\n" for file in files).encode()).hexdigest()


@cache
def code_hash() -> str:
    """What the ids depend on beside data and settings: this package's code and the libraries below it."""
    folder = Path(__file__).parent
    digests = [sha256(file) for file in sorted(folder.rglob("*")) if file.suffix in (".py", ".json", ".jinja")]
    return hashlib.sha256("".join([*digests, *map(version, _LIBRARIES)]).encode()).hexdigest()


def _folder(key: Key) -> Path:
    text = json.dumps(key, sort_keys=True, ensure_ascii=True)
    return cache_folder() / "encoded" / hashlib.sha256(text.encode()).hexdigest()[:32]


def _stamps(folder: Path) -> dict[str, list[int]]:
    names = sorted(file.name for file in folder.iterdir() if file.name != _STAMPS)
    return {name: _stamp(folder / name) for name in names}


def _stamp(file: Path) -> list[int]:
    """What changes with every write to a file: size, times and inode. Nobody can set the second time back."""
    facts = file.stat()
    return [facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_ino]


def _write_memo(memo: Path, content: Mapping[str, Any]) -> None:
    try:
        memo.parent.mkdir(parents=True, exist_ok=True)
        partial = memo.with_name(f".{memo.name}.{os.getpid()}")
        partial.write_text(json.dumps(content))
        partial.replace(memo)
    except OSError:
        pass  # it only saves time


def _forget_unused(folder: Path) -> None:
    for entry in folder.glob("*") if folder.is_dir() else ():
        if time.time() - entry.stat().st_mtime > _UNUSED:
            shutil.rmtree(entry, ignore_errors=True)
