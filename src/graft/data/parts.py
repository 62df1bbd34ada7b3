"""Rows -> two parts by what they say, so that a row stays where it is whatever else comes and goes. R = rows."""

import hashlib
import json
from array import array
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from graft.errors import DataError
from graft.records import Row

_WHOLE = 2**64

Chosen = NDArray[np.bool_]


def choose_rows(rows: Iterable[Row], *, held_out: float, seed: int, by: str = "") -> Chosen:
    """Choose a share of the rows (R,). Equal rows go to the same part.

    A row is drawn by the hash of its content and the seed: adding or removing rows moves no other. With `by` each value
    of that field has the share, as near as whole rows can: those with the lowest hashes. A row that is added or removed
    then moves one other of its value at most, and none of another. Of a row nothing is kept but its draw and its value.

    Args:
        held_out: in (0, 1).
        by: a field whose values are to be in both parts.

    Raises:
        DataError: a part would be empty, or a row lacks the field.
    """
    draws, values, known = array("Q"), array("q"), dict[str, int]()
    for row in rows:
        draws.append(draw(row.fields, seed))
        if by:
            values.append(known.setdefault(_value(row, by), len(known)))
    drawn = np.asarray(memoryview(draws))
    limit = np.uint64(min(int(held_out * _WHOLE), _WHOLE - 1))
    chosen: Chosen = _lowest(drawn, np.asarray(memoryview(values)), held_out) if by else drawn < limit
    if chosen.all() or not chosen.any():
        what = f"a share of {held_out:g} leaves one part of {len(drawn)} rows empty"
        raise DataError(what, fix="give another --held-out or --seed, or more rows")
    return chosen


def draw(fields: Mapping[str, Any], seed: int) -> int:
    """64 bits made of a row's content, whatever the order of its keys, and the seed."""
    content = json.dumps(fields, ensure_ascii=True, sort_keys=True, default=str)
    return int.from_bytes(hashlib.sha256(f"{seed}/{content}".encode()).digest()[:8], "big")


def _value(row: Row, by: str) -> str:
    if by not in row.fields:
        raise DataError(f"{row.source}: the row has no `{by}`", fix=f"give every row one, or leave --by {by} out")
    return json.dumps(row.fields[by], sort_keys=True, default=str)


def _lowest(drawn: NDArray[np.uint64], values: NDArray[np.int64], held_out: float) -> Chosen:
    """Of the rows with each value the share with the lowest draws."""
    chosen = np.zeros(len(drawn), dtype=bool)
    order = np.argsort(values, kind="stable")
    for rows in np.split(order, np.flatnonzero(np.diff(values[order])) + 1):
        distinct = np.unique(drawn[rows])
        taken = distinct[: round(held_out * len(distinct))]
        chosen[rows] = np.isin(drawn[rows], taken)
    return chosen
