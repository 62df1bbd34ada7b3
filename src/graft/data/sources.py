"""What a user names as data -> the files that hold it: a file, a folder, a glob, or a hub repository."""

import bz2
import glob
import gzip
import lzma
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, Any

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OfflineModeIsEnabled

from graft.errors import DataError
from graft.terminal import is_unicode

SUFFIXES = (".json", ".jsonl", ".ndjson", ".csv", ".tsv", ".parquet", ".txt")
PACKED: dict[str, Callable[[Path], Any]] = {".gz": gzip.open, ".bz2": bz2.open, ".xz": lzma.open}
UNPACKING_ERRORS = (OSError, EOFError, zlib.error, lzma.LZMAError)

_UNREAD = {".zst": "zstd -d", ".zip": "unzip", ".7z": "7z x", ".tar": "tar -xf", ".tgz": "tar -xf"}
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_NOT_ROWS = {"dataset_infos.json", "dataset_dict.json", "dataset_info.json", "state.json", "config.json"}


def find_files(path: str) -> list[Path]:
    """The files that `path` names, in an order that does not depend on the machine.

    Args:
        path: a file; a folder, with all data files below it; a glob such as `data/*.jsonl`; or a hub id (`owner/name`),
            which is downloaded once.

    Raises:
        DataError: there are none, or they cannot be had.
    """
    if not path:
        raise DataError("no data is given", fix="give a file, a folder or a hub id with --data")
    try:
        named = Path(path).expanduser()
        if named.is_dir():
            return _below(named, path)
        if named.is_file():
            return [named]
        if named.exists():
            what = f"{path} is no file, but a pipe or a device, which cannot be read twice"
            raise DataError(what, fix="write its rows to a file")
    except (OSError, ValueError, RuntimeError) as error:  # no file can have such a name, or nobody such a home
        raise DataError(f"{path!r} cannot be read: {error}", fix="check --data and the file's permissions") from None
    if glob.has_magic(path):
        found = _once(Path(name) for name in glob.iglob(str(named), recursive=True))
        if not found:
            raise DataError(f"no file is called {path}", fix="check --data")
        return _named(found)
    if _HUB_ID.fullmatch(path) and kind_of(Path(path)) not in SUFFIXES:
        return _to_train_on(_below(_download(path), path))
    raise DataError(f"{path} does not exist", fix="check --data")


def kind_of(file: Path) -> str:
    """The suffix that tells what a file holds, that of a packing left out; "" where it has none."""
    return (Path(file.stem) if file.suffix.lower() in PACKED else file).suffix.lower()


def open_file(file: Path) -> IO[bytes]:
    """The bytes of a file, unpacked."""
    suffix = file.suffix.lower()
    if suffix in _UNREAD:
        raise DataError(f"{file}: {suffix} is not read", fix=f"unpack it with `{_UNREAD[suffix]}`, or pack it as .gz")
    stream: IO[bytes] = PACKED[suffix](file) if suffix in PACKED else file.open("rb")
    return stream


def _once(names: Iterable[Path]) -> list[Path]:
    """The files among `names`, each under its shortest name: links that lead back give a file many."""
    found: dict[Path, Path] = {}
    for name in sorted(names, key=lambda name: (len(name.parts), name)):
        if name.is_file():
            found.setdefault(name.resolve(), name)
    return sorted(found.values(), key=str)


def _below(folder: Path, path: str) -> list[Path]:
    files = sorted(_data_files(folder))
    if not files:
        raise DataError(f"{path} holds no data file", fix=f"give a folder with files of {', '.join(SUFFIXES)}")
    return _named(files)


def _named(files: list[Path]) -> list[Path]:
    """The files, whose names can be written down."""
    if odd := [file for file in files if not is_unicode(str(file))]:
        raise DataError(f"the name of {odd[0]} is not valid UTF-8", fix="rename the file")
    return files


def _data_files(folder: Path) -> Iterator[Path]:
    for file in folder.rglob("*"):
        hidden = any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
        if not hidden and file.name not in _NOT_ROWS and kind_of(file) in SUFFIXES and file.is_file():
            yield file


def _to_train_on(files: list[Path]) -> list[Path]:
    """Of a hub data set: the Parquet files, where there are any, as others hold the same rows; of those, the ones with
    `train` in their names, where there are any, as others are there to measure on."""
    kept = [file for file in files if kind_of(file) == ".parquet"] or files
    return [file for file in kept if "train" in f"{file.parent.name}/{file.name}"] or kept


def _download(hub_id: str) -> Path:
    wanted = [f"*{suffix}{packed}" for suffix in SUFFIXES for packed in ("", *PACKED)]
    local = "or give a local file"
    try:
        return Path(snapshot_download(hub_id, repo_type="dataset", allow_patterns=wanted))
    except HFValidationError as error:
        raise DataError(f"{hub_id} does not exist here, and is no hub id: {error}", fix="check --data") from None
    except (LocalEntryNotFoundError, OfflineModeIsEnabled) as error:
        what = f"{hub_id} does not exist here, and the hub cannot be reached"
        raise DataError(what, fix=f"check the path, or the network; {local}") from error
    except (HfHubHTTPError, OSError) as error:
        reason = (str(error) or type(error).__name__).splitlines()[0]
        what = f"{hub_id} does not exist here, and the hub refuses it: {reason}"
        fix = f"check the spelling; for a private one log in with `hf auth login`; {local}"
        raise DataError(what, fix=fix) from error
