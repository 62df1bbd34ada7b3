"""Files -> rows, one at a time. Every row knows where it stands."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graft.data.calls import DEEPEST, too_deep
from graft.data.json_rows import ListReader, line_items
from graft.data.sources import UNPACKING_ERRORS, find_files, kind_of, open_file
from graft.data.tables import csv_items, parquet_items, text_items
from graft.errors import DataError
from graft.records import Row, Source

_BOM = b"\xef\xbb\xbf"


def read_rows(path: str) -> Iterator[Row]:
    """The rows of what `path` names: see `find_files`. A file's suffix tells what it holds; what has another is JSON:
    one list of objects, or an object a line.

    Raises:
        DataError: a file is missing, empty, not UTF-8 or not of its kind, or a row is not an object; with its place.
    """
    files = find_files(path)
    for file in files:
        named = path if len(files) == 1 and file.name == Path(path).name else str(file)
        empty = True
        for source, value in _items(file, named):
            yield Row(source, _object(value, source))
            empty = False
        if empty:
            raise DataError(f"{named} holds no row", fix="give a file with one row at least")


def _items(file: Path, path: str) -> Iterator[tuple[Source, Any]]:
    try:
        first = _first_byte(file)
        if not first:
            raise DataError(f"{path} is empty", fix="give a file with one row at least")
        kind = kind_of(file)
        if kind == ".parquet":
            yield from parquet_items(file, path)
            return
        with open_file(file) as stream:
            if kind in (".csv", ".tsv"):
                yield from csv_items(stream, path, delimiter="," if kind == ".csv" else "\t")
            elif kind == ".txt":
                yield from text_items(stream, path)
            else:
                yield from ListReader(stream, path) if first == b"[" else line_items(stream, path)
    except UNPACKING_ERRORS as error:
        raise DataError(f"{path!r} cannot be read: {error}", fix="check the file and its permissions") from None


def _first_byte(file: Path) -> bytes:
    """The first byte that is no space; b"" where there is none."""
    with open_file(file) as stream:
        beginning = stream.read(len(_BOM)).removeprefix(_BOM).lstrip()
        while not beginning and (more := stream.read(4096)):
            beginning = more.lstrip()
    return beginning[:1]


def _object(value: Any, source: Source) -> dict[str, Any]:
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a text", type(None): "null"}.get(type(value), "a number or truth value")
        raise DataError(f"{source}: a row must be an object, not {kind}", fix='write it as {"instruction": ...}')
    if too_deep(value):
        raise DataError(f"{source}: nested too deep, more than {DEEPEST} levels", fix="mend the row")
    return value
