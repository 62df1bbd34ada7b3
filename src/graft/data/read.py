"""Files -> rows. Every row knows the line on which it begins."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from graft.errors import DataError
from graft.records import Row, Source

_SPACE = " \t\r\n"


def read_rows(path: str) -> list[Row]:
    """The rows of a JSON file (one list of objects) or a JSONL file (one object a line).

    Raises:
        DataError: the file is missing, empty, not UTF-8, or not JSON, or a row is not an object; with file and line.
    """
    text = _read_text(path)
    stripped = text.lstrip(_SPACE)
    if not stripped:
        raise DataError(f"{path} is empty", fix="give a file with one row at least")
    if stripped[0] == "[":
        rows = [Row(source, _object(value, source)) for source, value in _list_items(text, path)]
    else:
        rows = [Row(source, _object(value, source)) for source, value in _line_items(text, path)]
    if not rows:
        raise DataError(f"{path} holds no row", fix="give a file with one row at least")
    return rows


def _read_text(path: str) -> str:
    if not path:
        raise DataError("no data is given", fix="give a JSON or JSONL file with --data")
    try:
        content = Path(path).expanduser().read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path} does not exist", fix="check --data") from None
    except IsADirectoryError:
        raise DataError(f"{path} is not a file", fix="give one JSON or JSONL file with --data") from None
    except (OSError, ValueError, RuntimeError) as error:  # no file can have such a name, or nobody such a home
        raise DataError(f"{path!r} cannot be read: {error}", fix="check --data and the file's permissions") from None
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}:{line}: byte {content[error.start]:#04x} is not UTF-8", fix="save the file as UTF-8"
        ) from None


def _list_items(text: str, path: str) -> Iterator[tuple[Source, Any]]:
    """The values of a JSON list, each with its line."""
    decoder = _decoder()
    place = _skip(text, 0) + 1
    line, counted = 1, 0
    while True:
        place = _skip(text, place)
        line, counted = line + text.count("\n", counted, place), place
        if text[place : place + 1] == "]":
            break
        source = Source(path, line)
        value, place = _decode(decoder, text, place, source)
        yield source, value
        place = _skip(text, place)
        line, counted = line + text.count("\n", counted, place), place
        if text[place : place + 1] == ",":
            place += 1
        elif text[place : place + 1] != "]":
            found = repr(text[place]) if place < len(text) else "the end of the file"
            raise DataError(f"{path}:{line}: not JSON: a comma or ] is due, not {found}", fix="mend the file")
    rest = _skip(text, place + 1)
    if rest < len(text):
        line += text.count("\n", counted, rest)
        raise DataError(f"{path}:{line}: text after the end of the list", fix="keep one list in one file")


def _line_items(text: str, path: str) -> Iterator[tuple[Source, Any]]:
    decoder = _decoder()
    for number, line in enumerate(text.split("\n"), start=1):
        start = _skip(line, 0)
        if start == len(line):
            continue
        source = Source(path, number)
        value, stop = _decode(decoder, line, start, source)
        if _skip(line, stop) < len(line):
            raise DataError(f"{source}: not JSON: text after the row", fix="write one object a line")
        yield source, value


def _decoder() -> json.JSONDecoder:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the key {twice!r} stands twice in one object")
        return fields

    return json.JSONDecoder(object_pairs_hook=unique)


def _decode(decoder: json.JSONDecoder, text: str, place: int, source: Source) -> tuple[Any, int]:
    try:
        return decoder.raw_decode(text, place)
    except json.JSONDecodeError as error:
        line = source.line + text.count("\n", place, error.pos)
        hint = "write a list of objects (.json), or one object a line (.jsonl)"
        raise DataError(f"{source.path}:{line}: not JSON: {error.msg}", fix=hint) from None
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise DataError(f"{source}: not usable JSON: {reason}", fix="mend the row") from None


def _object(value: Any, source: Source) -> dict[str, Any]:
    if not isinstance(value, dict):
        kind = {list: "a list", str: "a text", type(None): "null"}.get(type(value), "a number or truth value")
        raise DataError(f"{source}: a row must be an object, not {kind}", fix='write it as {"instruction": ...}')
    return value


def _skip(text: str, place: int) -> int:
    while place < len(text) and text[place] in _SPACE:
        place += 1
    return place
