"""Rows -> a file that appears whole or not at all, and in the place of another only where that is asked for."""

import csv
import json
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from graft.data.calls import as_json
from graft.data.spill import Texts
from graft.errors import DataError, write_error

_SURROGATE = re.compile("[\ud800-\udfff]")
_ELSEWHERE = "see that the disk has room and the folder may be written to, or name another"
WRITTEN = (".jsonl", ".json", ".csv")


def check_writable(path: Path, *, option: str = "--out") -> None:
    """Raise a DataError if rows cannot be written to `path`, which `option` names."""
    another = f"give another {option}"
    if path.suffix.lower() not in WRITTEN:
        raise DataError(f"{path}: rows are written as {', '.join(WRITTEN)}", fix=f"call it {path.stem}.jsonl")
    if os.path.lexists(path):
        raise DataError(f"{path} is there already, and no file of rows is written over", fix=another)
    above = next(place for place in path.parents if os.path.lexists(place))
    if not above.is_dir():
        raise DataError(f"{path} cannot be written: {above} is no folder", fix=another)


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]], *, replace: bool = False, option: str = "--out") -> None:
    """Write rows as `path` ends: JSONL, a JSON list, or CSV.

    Args:
        replace: a file of ours that is there already gives way to the new one.
        option: which of the command line's names `path`.

    Raises:
        DataError: it ends otherwise, is there already, or a row holds what cannot be written.
        RunError: the disk is full, or the folder cannot be written to.
    """
    if not replace:
        check_writable(path, option=option)
    with folder_or_none(path.parent):
        _write_beside(path, rows, replace=replace, option=option)


@contextmanager
def folder_or_none(folder: Path) -> Iterator[None]:
    """A folder, with those above it, to write into. Where that fails, those that were made for it are gone again.

    Raises:
        RunError: it cannot be made.
    """
    missing = [place for place in (folder, *folder.parents) if not os.path.lexists(place)]
    try:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise write_error(str(folder), error, fix=_ELSEWHERE) from None
        yield
    except BaseException:
        for place in missing:
            with suppress(OSError):  # another wrote into it meanwhile, or it was never made
                place.rmdir()
        raise


def _write_beside(path: Path, rows: Iterable[Mapping[str, Any]], *, replace: bool, option: str) -> None:
    """Write a file that is nowhere until it is whole."""
    name = ""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with open(descriptor, "w", encoding="utf-8", newline="") as stream:
            _WRITERS[path.suffix.lower()](stream, rows)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)  # mkstemp gives 0600
        if replace:
            os.replace(name, path)
        else:
            os.link(name, path)  # unlike a rename it fails where a file appeared meanwhile
    except FileExistsError:
        check_writable(path, option=option)
    except OSError as error:
        raise write_error(str(path), error, fix=_ELSEWHERE) from None
    except (TypeError, ValueError) as error:  # a date from a table, or half a surrogate pair
        what = f"{path}: a row holds what cannot be written: {error}"
        fix = "write .jsonl, or leave the column out that holds it" if path.suffix == ".csv" else "leave its column out"
        raise DataError(what, fix=fix) from None
    finally:
        if name:
            Path(name).unlink(missing_ok=True)


def _jsonl(stream: IO[str], rows: Iterable[Mapping[str, Any]]) -> None:
    stream.writelines(f"{_written(dict(row))}\n" for row in rows)


def _json(stream: IO[str], rows: Iterable[Mapping[str, Any]]) -> None:
    separator = "\n "
    stream.write("[")
    for row in rows:
        stream.write(separator + _written(dict(row), indent=1).replace("\n", "\n "))
        separator = ",\n "
    stream.write("]\n" if separator == "\n " else "\n]\n")


def _written(value: Any, indent: int | None = None) -> str:
    """`value` as JSON. Half a surrogate pair, which a key that nobody reads may hold, is escaped as it was."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
    if _SURROGATE.search(text):
        text = json.dumps(value, allow_nan=False, indent=indent)
    return text


def _csv(stream: IO[str], rows: Iterable[Mapping[str, Any]]) -> None:
    columns: dict[str, None] = {}
    kept = Texts()  # the first line names the columns of the last row
    for row in rows:
        columns |= dict.fromkeys(row)
        kept.add(as_json(dict(row)))
    writer = csv.writer(stream, lineterminator="\n", quoting=csv.QUOTE_ALL)  # else a lone carriage return is lost
    writer.writerow(columns)
    writer.writerows(_cells(json.loads(row), list(columns)) for row in kept)


def _cells(row: Mapping[str, Any], columns: Sequence[str]) -> Iterator[str]:
    """Texts as they are, all else as JSON; a key that a row lacks is empty."""
    for column in columns:
        value = row.get(column)
        yield value if isinstance(value, str) else "" if value is None else as_json(value)


_WRITERS = {".jsonl": _jsonl, ".json": _json, ".csv": _csv}
