"""CSV, Parquet and plain text -> rows."""

import csv
import datetime
import math
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import IO, Any

from graft.data.json_rows import LONGEST, decoded_lines
from graft.errors import DataError
from graft.records import Source

_STRETCH = 2**20
"""Characters of a text file that become one row, up to the end of a line; its tokens are cut into samples later."""

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
    try:
        number = 0
        with ParquetFile(file) as table:
            for batch in table.iter_batches(batch_size=_BATCH):
                for fields in batch.to_pylist():
                    number += 1
                    yield Source(path, number), {name: _plain(value) for name, value in fields.items()}
    except (ArrowException, OSError, ValueError) as error:  # ValueError: a text in it is no UTF-8
        reason = " ".join(str(error).split())
        raise DataError(
            f"{path}: row {number + 1}: not Parquet: {reason}", fix="fetch or write the file again"
        ) from None


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
