"""Rows -> two parts by what they say, so that a row stays where it is whatever else comes and goes."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graft.errors import DataError
from graft.records import Row

_WHOLE = 2**64


@dataclass(frozen=True)
class Split:
    """Both parts keep the order of the file."""

    train: list[Row]
    held_out: list[Row]


def split_rows(rows: Sequence[Row], *, held_out: float, seed: int, by: str = "") -> Split:
    """Keep a share of the rows apart. Equal rows go to the same part.

    A row is drawn by the hash of its content and the seed: adding or removing rows moves no other. With `by` each value
    of that field has the share, as near as whole rows can: those with the lowest hashes. A row that is added or removed
    then moves one other of its value at most, and none of another.

    Args:
        held_out: in (0, 1).
        by: a field whose values are to be in both parts.

    Raises:
        DataError: a part would be empty, or a row lacks the field.
    """
    drawn = [draw(row.fields, seed) for row in rows]
    if by:
        chosen = _lowest(rows, drawn, held_out, by)
    else:
        limit = int(held_out * _WHOLE)
        chosen = {number for number, hashed in enumerate(drawn) if hashed < limit}
    parts = Split(
        train=[row for number, row in enumerate(rows) if number not in chosen],
        held_out=[row for number, row in enumerate(rows) if number in chosen],
    )
    if not parts.train or not parts.held_out:
        what = f"a share of {held_out:g} leaves one part of {len(rows)} rows empty"
        raise DataError(what, fix="give another --held-out or --seed, or more rows")
    return parts


def draw(fields: Mapping[str, Any], seed: int) -> int:
    """64 bits made of a row's content, whatever the order of its keys, and the seed."""
    content = json.dumps(fields, ensure_ascii=True, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(f"{seed}/{content}".encode()).digest()[:8], "big")


def _lowest(rows: Sequence[Row], drawn: Sequence[int], held_out: float, by: str) -> set[int]:
    values: dict[str, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        if by not in row.fields:
            raise DataError(f"{row.source}: the row has no `{by}`", fix=f"give every row one, or leave --by {by} out")
        values[json.dumps(row.fields[by], sort_keys=True, default=str)].append(number)
    chosen: set[int] = set()
    for numbers in values.values():
        distinct = sorted({drawn[number] for number in numbers})
        taken = set(distinct[: round(held_out * len(distinct))])
        chosen |= {number for number in numbers if drawn[number] in taken}
    return chosen
