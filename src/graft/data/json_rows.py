"""JSON -> rows, a few at a time: a list of objects, or an object a line. Every row knows the line where it begins."""

import codecs
import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any

from graft.data.calls import finite
from graft.data.sources import UNPACKING_ERRORS
from graft.errors import DataError
from graft.records import Source

LONGEST = 2**26
"""Characters that one row may have. What is longer is no sample, and would fill the memory."""

_CHUNK = 2**16
_SPACE = re.compile(r"[ \t\r\n]*")
_NEAR = 16  # a number, a word or an escape that is cut off is shorter


def decoded_lines(stream: IO[bytes], path: str) -> Iterator[str]:
    """The lines of a UTF-8 file, each with its end."""
    number = 0
    while line := _read(stream, path, lambda: stream.readline(LONGEST + 1)):
        number += 1
        if len(line) > LONGEST:
            raise DataError(f"{path}:{number}: a line of more than {LONGEST} bytes", fix="no sample is that long")
        try:
            yield line.decode("utf-8-sig" if number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            raise _not_utf8(path, number, line[error.start]) from None


def line_items(stream: IO[bytes], path: str) -> Iterator[tuple[Source, Any]]:
    """The values of a file with one a line, each with its place."""
    decoder = _decoder()
    for number, ended in enumerate(decoded_lines(stream, path), start=1):
        line = ended.removesuffix("\n")  # so that no fault is counted to the next one
        start = _skip(line, 0)
        if start == len(line):
            continue
        source = Source(path, number)
        try:
            value, stop = decoder.raw_decode(line, start)
        except (ValueError, RecursionError) as error:
            raise _fault(error, line, start, source) from None
        if _skip(line, stop) < len(line):
            raise DataError(f"{source}: not JSON: text after the row", fix="write one object a line")
        yield source, value


class ListReader:
    """The values of a JSON list, each with its line; no more of the file is kept than the value that is read."""

    def __init__(self, stream: IO[bytes], path: str) -> None:
        self._chunks = _decoded_chunks(stream, path)
        self._path = path
        self._text = ""
        self._place = 0
        self._line = 1
        self._decoder = _decoder()

    def __iter__(self) -> Iterator[tuple[Source, Any]]:
        self._next()
        self._place += 1  # the bracket
        while self._next() != "]":
            source = Source(self._path, self._line)
            yield source, self._value(source)
            follows = self._next()
            if follows == ",":
                self._place += 1
            elif follows != "]":
                found = repr(follows) if follows else "the end of the file"
                what = f"{self._path}:{self._line}: not JSON: a comma or ] is due, not {found}"
                raise DataError(what, fix="mend the file")
        self._place += 1
        if self._next():
            raise DataError(f"{self._path}:{self._line}: text after the end of the list", fix="keep one list in a file")

    def _next(self) -> str:
        """Go to the next character that is no space; "" at the end of the file."""
        while True:
            self._go(_skip(self._text, self._place))
            if self._place < len(self._text) or not self._more():
                return self._text[self._place : self._place + 1]

    def _go(self, place: int) -> None:
        self._line += self._text.count("\n", self._place, place)
        self._place = place

    def _more(self) -> bool:
        """Read on, at least as much again as is waiting, so that a long value is not begun too often."""
        waiting = [self._text[self._place :]]
        length = len(waiting[0])
        wanted = length + max(length, 1)
        while length < wanted and (chunk := next(self._chunks, "")):
            waiting.append(chunk)
            length += len(chunk)
        grown = len(waiting) > 1
        self._text, self._place = "".join(waiting), 0
        return grown

    def _value(self, source: Source) -> Any:
        while True:
            try:
                value, stop = self._decoder.raw_decode(self._text, self._place)
                break
            except (ValueError, RecursionError) as error:
                cut_off = isinstance(error, json.JSONDecodeError) and (
                    error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - _NEAR
                )
                if cut_off and len(self._text) - self._place > LONGEST:
                    what = f"{source}: a row of more than {LONGEST} characters"
                    raise DataError(what, fix="no sample is that long: look for a missing quote") from None
                fault = _fault(error, self._text, self._place, source)
                if not (cut_off and self._more()):
                    raise fault from None
        self._go(stop)
        return value


def _decoded_chunks(stream: IO[bytes], path: str) -> Iterator[str]:
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    line = 1
    while True:
        chunk = _read(stream, path, lambda: stream.read(_CHUNK))
        try:
            text = decoder.decode(chunk, final=not chunk)
        except UnicodeDecodeError as error:
            line += error.object.count(b"\n", 0, error.start)
            raise _not_utf8(path, line, error.object[error.start]) from None
        line += chunk.count(b"\n")
        if text:
            yield text
        if not chunk:
            return


def _read(stream: IO[bytes], path: str, read: Any) -> bytes:
    try:
        content: bytes = read()
    except UNPACKING_ERRORS as error:
        raise DataError(f"{path} cannot be read: {error}", fix="fetch or pack the file again") from None
    return content


def _not_utf8(path: str, line: int, byte: int) -> DataError:
    return DataError(f"{path}:{line}: byte {byte:#04x} is not UTF-8", fix="save the file as UTF-8")


def _decoder() -> json.JSONDecoder:
    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        fields = dict(pairs)
        if len(fields) < len(pairs):
            twice = next(name for name, count in Counter(name for name, _ in pairs).items() if count > 1)
            raise ValueError(f"the key {twice!r} stands twice in one object")
        return fields

    def no_number(name: str) -> Any:
        raise ValueError(f"{name} is no value of JSON; write null")

    return json.JSONDecoder(object_pairs_hook=unique, parse_constant=no_number, parse_float=finite)


def _fault(error: Exception, text: str, place: int, source: Source) -> DataError:
    if isinstance(error, json.JSONDecodeError):
        line = source.line + text.count("\n", place, error.pos)
        hint = "write a list of objects (.json), or one object a line (.jsonl)"
        return DataError(f"{source.path}:{line}: not JSON: {error.msg}", fix=hint)
    reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
    return DataError(f"{source}: not usable JSON: {reason}", fix="mend the row")


def _skip(text: str, place: int) -> int:
    return _SPACE.match(text, place).end()  # type: ignore[union-attr]  # it matches the empty text
