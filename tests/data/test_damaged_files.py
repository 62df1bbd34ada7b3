"""Files of every kind, in every format, damaged in many ways: good rows, rows with a fault, or an error that names the
file; on the whole way from bytes to tokens, checks, a cleaned copy and a conversion."""

import bz2
import csv
import gzip
import io
import json
import lzma
import resource
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pyarrow
import pytest
from pyarrow import parquet

from graft.data import load_template, read_rows
from graft.data.checks import Cleaner, examine, find
from graft.data.formats import FORMATS, read_each
from graft.data.formats.writers import WRITERS, write_fields
from graft.data.parts import choose_rows
from graft.data.write import write_rows
from graft.errors import DataError, RowFault
from graft.records import Conversation, Row
from tests.data.characters import Characters
from tests.data.checks.subjects import REFUSING, surveyed

CODEC = Characters()
TEMPLATES = [load_template(name) for name in ("alpaca", "chatml", "llama-2", "llama-3", "mistral", "gemma", "chatglm3")]
PACKED = {"": bytes, ".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
CALL = {"name": "look", "arguments": {"at": "鱼", "n": [1, None, 2.5]}}
TOOLS = [{"name": "look", "description": "d", "parameters": {"type": "object", "properties": {"at": {}}}}]
SAMPLES: dict[str, dict[str, Any]] = {
    "alpaca": {"instruction": "Ask.", "input": "鱼", "output": "Fine.", "history": [["a b", "c d"]], "weight": 0.5},
    "dolly": {"instruction": "Ask.", "context": "c", "response": "Fine.", "category": "open_qa"},
    "prompt-response": {"prompt": "Ask.", "response": "Fine.", "system": "s"},
    "prompt-completion": {"prompt": "Ask.", "completion": "Fine."},
    "samsum": {"id": 7, "dialogue": "A: hi", "summary": "A greets."},
    "input-target": {"input": "Ask.", "target": "Fine."},
    "text": {"text": "Once upon a time.\n"},
    "messages": {
        "messages": [
            {"role": "system", "content": "s"},
            {"role": "user", "content": [{"type": "text", "text": "Ask."}]},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": CALL}]},
            {"role": "tool", "content": "3", "tool_call_id": "c1"},
            {"role": "assistant", "content": "Fine.", "weight": 1},
        ],
        "tools": [{"type": "function", "function": TOOLS[0]}],
    },
    "sharegpt": {
        "conversations": [
            {"from": "human", "value": "Ask."},
            {"from": "function_call", "value": json.dumps(CALL)},
            {"from": "observation", "value": "3"},
            {"from": "gpt", "value": "Fine.", "loss": True},
        ],
        "tools": json.dumps(TOOLS),
    },
    "chatglm": {
        "tools": TOOLS,
        "conversations": [
            {"role": "user", "content": "Ask."},
            {"role": "tool", "name": "look", "parameters": {"at": "x"}, "observation": "3"},
            {"role": "assistant", "metadata": "look", "content": "```python\ntool_call(at='x')\n```", "loss": False},
            {"role": "observation", "content": "3"},
            {"role": "assistant", "content": "Fine."},
        ],
    },
}
ODD: list[Any] = [
    None, True, 0, -1, 2.5, 10**400, 1e308, "", " ", "\ud800", "\x00", "\x1b[2J", "<|im_end|>", "{{ x }}", "</think>",
    "9" * 5000, "[" * 2000, [], {}, [[]], [[[["a"]]]], {"a": {"b": None}}, ["a", 1], "null", "[1]", '{"a": 1, "a": 2}',
]  # fmt: skip
BYTES = [
    b"\xff\xfe", b"\xed\xa0\x80", b"[" * 3000, b'{"a":' * 3000, b"9" * 5000, b"1e999", b'"a": NaN,', b'"', b"\0", b"\r",
    b"\n", b"\xef\xbb\xbf", b'"instruction": "twice", ', b"\\ud800", b"\\u0000", b",", b"\t", b"]", b"}", b"\x1b[31m",
]  # fmt: skip


def odd(value: Any, random: Random) -> Any:
    """`value` with one thing in it replaced, left out or written twice."""
    if isinstance(value, dict | list) and value and random.random() < 0.8:
        copied: Any = value.copy()
        place = random.choice(list(value)) if isinstance(value, dict) else random.randrange(len(value))
        match random.randrange(8):
            case 0:
                del copied[place]
            case 1 if isinstance(copied, list):
                copied.insert(place, copied[place])
            case _:
                copied[place] = odd(value[place], random)
        return copied
    return random.choice(ODD)


def rows_of(random: Random) -> list[Any]:
    sample = SAMPLES[random.choice(list(SAMPLES))]
    rows: list[Any] = [{**sample} for _ in range(random.randint(1, 4))]
    for _ in range(random.choice([0, 1, 1, 3])):
        place = random.randrange(len(rows))
        rows[place] = odd(rows[place], random)
    return rows


def written(kind: str, rows: list[Any]) -> bytes:
    if kind == "txt":
        return "\n".join(str(row) for row in rows).encode("utf-8", "surrogatepass")
    if kind == "json":
        return json.dumps(rows).encode()
    if kind == "jsonl":
        return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode("utf-8", "surrogatepass")
    texts = [
        {k: v if isinstance(v, str) else json.dumps(v) for k, v in row.items()} for row in rows if isinstance(row, dict)
    ] or [{"text": "x"}]
    if kind == "parquet":
        target = io.BytesIO()
        try:
            parquet.write_table(pyarrow.Table.from_pylist(rows), target)
        except (pyarrow.ArrowException, OverflowError, TypeError, AttributeError, UnicodeEncodeError):  # no table
            target = io.BytesIO()
            parquet.write_table(pyarrow.Table.from_pylist([{"text": "x"}]), target)
        return target.getvalue()
    table = io.StringIO()
    writer = csv.DictWriter(table, {k: 0 for row in texts for k in row}, delimiter="\t" if kind == "tsv" else ",")
    writer.writeheader()
    writer.writerows(texts)
    return table.getvalue().encode("utf-8", "surrogatepass")


def damaged(content: bytes, random: Random) -> bytes:
    found = bytearray(content or b" ")
    for _ in range(random.choice([0, 0, 1, 1, 2, 8])):
        place = random.randrange(len(found))
        match random.randrange(5):
            case 0:
                found[place] = random.randrange(256)
            case 1:
                found = found[: place + 1]
            case 2:
                found[place:place] = random.choice(BYTES)
            case 3:
                del found[place : place + random.randrange(1, 9)]
                found = found or bytearray(b" ")
            case 4:
                found[place:place] = found[place : place + 60]
    return bytes(found)


def whole_way(file: Path, format_name: str, number: int) -> None:
    """As `graft data check --fix`, `convert` and `split` go."""
    template = TEMPLATES[number % len(TEMPLATES)]

    def read() -> Iterator[tuple[Row, Conversation | RowFault]]:
        return read_each(read_rows(str(file)), format_name)

    seen = list(examine(read(), template, CODEC, cutoff=200))
    assert all(row.fault or row.samples for row in seen)
    subject = surveyed(seen, cutoff=200)
    findings = find(subject)
    assert all(finding.found.fix and finding.found.what for finding in findings)
    json.dumps([finding.as_json() for finding in findings])
    cleaner = Cleaner(subject, findings)
    out = file.parent / f"out{number}.jsonl"
    if cleaner.rows:
        write_rows(out, cleaner.fields(read_rows(str(file))))
        again = list(examine(read_each(read_rows(str(out)), format_name), template, CODEC, cutoff=200))
        assert not find(surveyed(again, cutoff=200), names=REFUSING), "a cleaned copy passes"
        out.unlink()
    for row in seen:
        if row.conversation:
            for name in WRITERS:
                try:
                    json.dumps(write_fields(row.conversation, name, join=True), allow_nan=False)
                except RowFault:
                    continue
    choose_rows(read_rows(str(file)), held_out=0.5, seed=number)


@pytest.mark.slow
def test_ten_thousand_damaged_files_give_rows_or_an_error_that_says_where(tmp_path: Path) -> None:
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    good = 0
    for number in range(10_000):
        random = Random(number)
        kind = random.choice(["json", "jsonl", "csv", "tsv", "txt", "parquet"])
        packing = random.choice(["", "", "", *PACKED])
        content = written(kind, rows_of(random))
        content = damaged(content, random) if random.random() < 0.4 else content
        content = PACKED[packing](content)
        content = damaged(content, random) if packing and random.random() < 0.3 else content
        file = tmp_path / f"r{number}.{kind}{packing}"
        file.write_bytes(content)
        try:
            whole_way(file, random.choice(["auto"] * 10 + list(FORMATS)), number)
            good += 1
        except DataError as error:
            said = str(error)
            assert "->" in said, said
            assert file.name in said or "leaves one part" in said or "fits" in said, said
        file.unlink()
    assert good > 1000, "many are good, or good but for some rows"
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown < 2**19, "half a GiB, in KiB"
