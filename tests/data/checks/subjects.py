"""Rows as users write them -> the subject of checks, with the seedling's tokenizer and the template alpaca."""

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np

from graft.data import load_template
from graft.data.checks import CHECKS, Found, Seen, Subject, Survey, Terms, examine
from graft.data.formats import read_each
from graft.model import Tokenizer, load_tokenizer
from graft.records import Row, Source
from graft.seedling import seedling_path

Fields = dict[str, Any]
REFUSING = [name for name, check in CHECKS.items() if check.severity == "refused"]


@cache
def tokenizer() -> Tokenizer:
    return load_tokenizer(str(seedling_path()))


def alpaca(instruction: str, output: str, **more: Any) -> Fields:
    return {"instruction": instruction, "output": output, **more}


def talk(*said: tuple[str, str], **more: Any) -> Fields:
    return {"messages": [{"role": role, "content": content} for role, content in said], **more}


def rows_of(*fields: Fields) -> list[Row]:
    """They stand on lines 1, 2, ... of a file."""
    return [Row(Source("rows.jsonl", line), given) for line, given in enumerate(fields, start=1)]


def seen(*rows: Fields, cutoff: int = 1024) -> list[Seen]:
    return list(examine(read_each(rows_of(*rows)), load_template("alpaca"), tokenizer(), cutoff=cutoff))


def surveyed(rows: Iterable[Seen], *, held_out: Sequence[int] = (), cutoff: int = 1024, **more: Any) -> Subject:
    """`held_out` has the numbers, from 0, of those to measure on."""
    survey = Survey(Terms(cutoff, **more))
    for row in rows:
        survey.add(row)
    whole = survey.finish()
    return replace(whole, held_out=np.isin(np.arange(len(whole)), held_out))


def subject(*rows: Fields, held_out: Sequence[int] = (), cutoff: int = 1024, **more: Any) -> Subject:
    return surveyed(seen(*rows, cutoff=cutoff), held_out=held_out, cutoff=cutoff, **more)


def found(name: str, *rows: Fields, **more: Any) -> dict[int, str]:
    """What the check finds: the lines of rows, each with what is wrong with it."""
    result: Found | None = CHECKS[name].find(subject(*rows, **more))
    assert result is None or (result.what and result.fix)
    return {number + 1: what for number, what in result.rows.items()} if result else {}
