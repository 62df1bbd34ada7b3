"""CSV, Parquet and plain text -> rows."""

import csv
import datetime
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

from graft.data.json_rows import LONGEST, decoded_lines
from graft.errors import DataError
from graft.records import Source

_STRETCH = 2**20
"""Characters of a text file that become one row, up to the end of a line; its tokens are cut into samples later."""

_SECONDS = re.compile(r"(:\d\d:\d\d)(\.\d+)?")

_BATCH = 1024  # Parquet rows that are read at a time


def csv_items(stream: IO[bytes], path: str, *, delimiter: str) -> Iterator[tuple[Source, Any]]:
    """The rows of a table whose first line has the names of its columns; every value is a text."""
    csv.field_size_limit(LONGEST)
    names: list[str] = []
    line, held = 1, 0

    def lines() -> Iterator[str]:
        nonlocal held
        for text in decoded_lines(stream, path):
            held += len(text)
            if held > LONGEST:
                raise DataError(f"{path}:{line}: a row of more than {LONGEST} characters", fix="close every quote")
            yield text

    reader = csv.reader(lines(), delimiter=delimiter, strict=True)
    try:
        for cells in reader:
            if not names:
                names = _column_names(cells, path, line)
            elif cells:
                source = Source(path, line)
                if len(cells) != len(names):
                    what = f"{source}: {len(cells)} cells, and there are {len(names)} columns"
                    raise DataError(what, fix='quote cells that hold a comma or a line break: "a, b"')
                yield source, dict(zip(names, cells, strict=True))
            line, held = reader.line_num + 1, 0
    except csv.Error as error:
        raise DataError(
            f"{path}:{line}: not CSV: {error}", fix="close every quote, and double those in a cell"
        ) from None


def _column_names(cells: list[str], path: str, line: int) -> list[str]:
    names = [cell.strip() for cell in cells]
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise DataError(f"{path}:{line}: the column `{twice[0]}` stands twice", fix="give every column a name")
    if len(names) == 1 and (";" in names[0] or "\t" in names[0]):
        fix = "separate columns by commas, or by tabs in a file called .tsv"
        raise DataError(f"{path}:{line}: one column `{names[0]}`", fix=fix)
    return names


def text_items(stream: IO[bytes], path: str) -> Iterator[tuple[Source, Any]]:
    """Stretches of a text file, each as `{"text": ...}`."""
    held: list[str] = []
    length, begun = 0, 1
    for number, line in enumerate(decoded_lines(stream, path), start=1):
        held.append(line)
        length += len(line)
        if length >= _STRETCH:
            yield Source(path, begun), {"text": "".join(held)}
            held, length, begun = [], 0, number + 1
    if any(line.strip() for line in held):
        yield Source(path, begun), {"text": "".join(held)}


def parquet_items(file: Path, path: str) -> Iterator[tuple[Source, Any]]:
    """The rows of a Parquet file; their places are row numbers.

    A key that a row leaves out comes as null from a table, so those within a cell are left out again.
    """
    try:
        from pyarrow import ArrowException
        from pyarrow.parquet import ParquetFile
    except ImportError:
        fix = "pip install 'graft-llm[parquet]', or save it as JSONL"
        raise DataError(f"{path}: Parquet files are read with pyarrow, which is not installed", fix=fix) from None
    number = 0
    try:
        with ParquetFile(file) as table:
            if name := _stands_twice(table.schema_arrow):
                what = f"{path}: the column `{name}` stands twice, and a row has room for one"
                raise DataError(what, fix="give every column a name of its own, and write the file again")
            for batch in table.iter_batches(batch_size=_BATCH):
                named = zip(batch.schema.names, batch.columns, strict=True)
                columns = {name: _values(cells, f"{path}: row", number, name) for name, cells in named}
                for place in range(batch.num_rows):
                    number += 1
                    yield Source(path, number), {name: _plain(values[place]) for name, values in columns.items()}
    except (ArrowException, OSError) as error:
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: row {number + 1}: not Parquet: {reason}", fix="fetch or write the file again"
        ) from None


def _stands_twice(fields: Iterable[Any]) -> str:
    """The name that two of these fields of a table have, or two in a field of them, `a.b`; "" where none does."""
    fields = list(fields)
    for name, count in Counter(field.name for field in fields).items():
        if count > 1:
            return str(name)
    for field in fields:
        if inner := _stands_twice(field.type.field(place) for place in range(field.type.num_fields)):
            return f"{field.name}.{inner}"
    return ""


def _values(column: Any, where: str, before: int, name: str) -> list[Any]:
    """The values of a column, whose first stands behind so many rows.

    Raises:
        DataError: Python has no value for one: a text that is no UTF-8, or a year above 9999.
    """
    try:
        if not _nanoseconds_in(column.type):
            return list(column.to_pylist())
    except (ValueError, OverflowError):
        pass  # which one it is shows one by one
    values = []
    for number, cell in enumerate(column, start=before + 1):
        try:
            values.append(_cell(cell))
        except (ValueError, OverflowError) as error:
            what = f"{where} {number}: what the column `{name}` holds cannot be read: {error}"
            raise DataError(what, fix="write the column anew, or leave it out of the file") from None
    return values


def _nanoseconds_in(kind: Any) -> bool:
    """Whether a type holds times in nanoseconds, which Python's own have no room for."""
    inner = (kind.field(place).type for place in range(kind.num_fields))
    return getattr(kind, "unit", "") == "ns" or any(map(_nanoseconds_in, inner))


def _cell(cell: Any) -> Any:
    """What a cell holds; times in nanoseconds as texts, nothing lost."""
    from pyarrow.types import is_map, is_struct

    kind = cell.type
    if not cell.is_valid or not _nanoseconds_in(kind):
        return cell.as_py()
    if not kind.num_fields:
        return _exact_time(cell)
    if is_struct(kind):
        return {name: _cell(cell[name]) for name in (kind.field(place).name for place in range(kind.num_fields))}
    items = [_cell(item) for item in cell.values]
    return [tuple(item.values()) for item in items] if is_map(kind) else items  # as Arrow gives maps


def _exact_time(cell: Any) -> str:
    """A time or a span of time in nanoseconds, as Python writes those in microseconds, with three digits more where
    they say something."""
    from pyarrow import duration, scalar, time64, timestamp

    microseconds, left = divmod(cell.value, 1000)
    zone = getattr(cell.type, "tz", None)
    name = str(cell.type).split("[")[0]
    kind = {"timestamp": timestamp("us", zone), "time64": time64("us"), "duration": duration("us")}[name]
    value = scalar(microseconds, kind).as_py()
    text = str(value) if name == "duration" else value.isoformat()
    if not left:
        return text
    return _SECONDS.sub(lambda found: f"{found[1]}{found[2] or '.000000'}{left:03d}", text, count=1)


def _plain(value: Any) -> Any:
    """A cell as JSON would hold it: dates and exact decimals as texts, and null where a table says that there is no
    number."""
    if isinstance(value, dict):
        return {key: plain for key, item in value.items() if (plain := _plain(item)) is not None}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal | datetime.timedelta) else value
