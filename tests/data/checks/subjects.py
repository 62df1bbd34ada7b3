"""Rows as users write them -> the subject of checks, with the seedling's tokenizer and the template alpaca."""

from dataclasses import replace
from functools import cache
from typing import Any

from graft.data import load_template
from graft.data.checks import CHECKS, Found, Subject, examine
from graft.data.formats import read_each
from graft.model import Tokenizer, load_tokenizer
from graft.records import Row, Source
from graft.seedling import seedling_path

Fields = dict[str, Any]


@cache
def tokenizer() -> Tokenizer:
    return load_tokenizer(str(seedling_path()))


def alpaca(instruction: str, output: str, **more: Any) -> Fields:
    return {"instruction": instruction, "output": output, **more}


def talk(*said: tuple[str, str], **more: Any) -> Fields:
    return {"messages": [{"role": role, "content": content} for role, content in said], **more}


def subject(*rows: Fields, held_out: tuple[int, ...] = (), cutoff: int = 1024, **more: Any) -> Subject:
    """The rows stand on lines 1, 2, ... of a file; `held_out` has the numbers, from 0, of those to measure on."""
    read = read_each(Row(Source("rows.jsonl", number), fields) for number, fields in enumerate(rows, start=1))
    seen = examine(read, load_template("alpaca"), tokenizer(), cutoff=cutoff)
    marked = [replace(row, held_out=number in held_out) for number, row in enumerate(seen)]
    return Subject(marked, cutoff, **more)


def found(name: str, *rows: Fields, **more: Any) -> dict[int, str]:
    """What the check finds: the lines of rows, each with what is wrong with it."""
    result: Found | None = CHECKS[name].find(subject(*rows, **more))
    assert result is None or (result.what and result.fix)
    return {number + 1: what for number, what in result.rows.items()} if result else {}
