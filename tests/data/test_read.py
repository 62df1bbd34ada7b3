import bz2
import csv
import gzip
import io
import json
import lzma
import re
import tracemalloc
from pathlib import Path
from random import Random
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from graft.data import read_conversations, read_rows
from graft.errors import DataError


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "rows.json"


def read(file: Path, content: str | bytes) -> list[tuple[int, Any]]:
    """Line and fields of every row of a file with this content."""
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    rows = list(read_rows(str(file)))
    assert all(row.source.path == str(file) for row in rows)
    return [(row.source.line, dict(row.fields)) for row in rows]


def refusal(file: Path, content: str | bytes) -> str:
    """The first line of what the user is told about a file with this content; the path is left out."""
    with pytest.raises(DataError) as caught:
        read(file, content)
    assert caught.value.__cause__ is None
    assert "Traceback" not in str(caught.value)
    assert caught.value.fix
    assert caught.value.what.startswith(str(file))
    return caught.value.what.removeprefix(str(file))


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ('[{"a": 1}, {"b": 2}]', [(1, {"a": 1}), (1, {"b": 2})]),
        ('[\n  {"a": 1},\n  {"b": 2}\n]\n', [(2, {"a": 1}), (3, {"b": 2})]),
        ('[\n{\n"a": 1\n}\n,\n\n{"b": 2}, {"c": 3}\n]', [(2, {"a": 1}), (7, {"b": 2}), (7, {"c": 3})]),
        (
            '\n\n[{"a": {"x": [{"}": "]"}]}},\n{"b": "]},{\\n\\n\\"[{"},\n{"c": 1}]',
            [(3, {"a": {"x": [{"}": "]"}]}}), (4, {"b": ']},{\n\n"[{'}), (5, {"c": 1})],
        ),
        ('[{"a": 1},\r\n{"b": 2}]\r\n', [(1, {"a": 1}), (2, {"b": 2})]),
        ('\ufeff[\n{"a": "鱼\u2028"}\n]', [(2, {"a": "鱼\u2028"})]),
    ],
    ids=["one line", "a row a line", "rows over lines", "braces in strings", "CRLF", "BOM"],
)
def test_a_json_list_gives_its_rows_with_the_line_where_each_begins(file: Path, content: str, rows: object) -> None:
    assert read(file, content) == rows


@pytest.mark.parametrize(
    ("content", "rows"),
    [
        ('{"a": 1}\n{"b": 2}\n', [(1, {"a": 1}), (2, {"b": 2})]),
        ('{"a": 1}\n{"b": 2}', [(1, {"a": 1}), (2, {"b": 2})]),
        ('\n{"a": 1}\n\n  \t\n{"b": "\\n\\n"}\n\n', [(2, {"a": 1}), (5, {"b": "\n\n"})]),
        ('{"a": 1}\r\n\r\n{"b": 2}\r\n', [(1, {"a": 1}), (3, {"b": 2})]),
        ('\ufeff{"a": "\u2028\u0085"}\n  {"b": 2}  \n', [(1, {"a": "\u2028\u0085"}), (2, {"b": 2})]),
    ],
    ids=["plain", "no last newline", "blank lines", "CRLF", "BOM and odd separators"],
)
def test_jsonl_gives_a_row_a_line(file: Path, content: str, rows: object) -> None:
    assert read(file, content) == rows


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", " is empty"),
        (b" \r\n\t\n", " is empty"),
        (b"\xef\xbb\xbf", " is empty"),
        (b"[]", " holds no row"),
        (b"\n[\n]\n", " holds no row"),
        (b'[{"a": 1},\n{"a": "\xff"}]', ":2: byte 0xff is not UTF-8"),
        ('{"a": "鱼"}\n'.encode("gb18030"), ":1: byte 0xd3 is not UTF-8"),
        ('{"a": 1}'.encode("utf-16"), ":1: byte 0xff is not UTF-8"),
        ('[\n{"a": 1},\n{"b": }\n]', ":3: not JSON"),
        ('[\n{"a": 1,\n\n"b": x}\n]', ":4: not JSON"),
        ('{"a": 1}\n\n{"b": \n', ":3: not JSON"),
        ('{"a": 1}\n{"b": 2} {"c": 3}\n', ":2: not JSON: text after the row"),
        ('{\n"a": 1\n}', ":1: not JSON"),
        ('{"a": 1}\n3\n', ":2: a row must be an object, not a number"),
        ('[\n{"a": 1},\n["b"]]', ":3: a row must be an object, not a list"),
        ('["a"]', ":1: a row must be an object, not a text"),
        ("[\n\nnull]", ":3: a row must be an object, not null"),
        ("[true]", ":1: a row must be an object, not a number or truth value"),
        ('[{"a": 1}\n]\n\n{"b": 2}', ":4: text after the end of the list"),
        ('[{"a": 1}] ]', ":1: text after the end of the list"),
        ('[{"a": 1}\n\n{"b": 2}]', ":3: not JSON: a comma or ] is due, not '{'"),
        ('[{"a": 1},\n{"b": 2}\n', ":3: not JSON: a comma or ] is due, not the end of the file"),
        ('[{"a": 1},\n', ":2: not JSON"),
        ('[{"a": 1},\n{"b": "never clos', ":2: not JSON"),
        ("[", ":1: not JSON"),
        ('[{"a": 1}\n,,{"b": 1}]', ":2: not JSON"),
        ('[\n{"a": 1, "b": 2, "a": 3}]', ":2: not usable JSON: the key 'a' stands twice"),
        ('{"x": 1}\n{"a": {"b": 1, "b": 1}}', ":2: not usable JSON: the key 'b' stands twice"),
        ('[{"x": 1},\n{"a": ' + "[" * 100_000 + "]" * 100_000 + "}]", ":2: not usable JSON: nested too deep"),
        ('{"a": 1}\n' + '{"a":' * 100_000, ":2: not usable JSON: nested too deep"),
        ('{"a": 1}\n{"a": ' + "9" * 5000 + "}", ":2: not usable JSON"),
        ("instruction,output\nhi,hello\n", ":1: not JSON"),
    ],
)
def test_a_file_that_holds_no_rows_is_refused_with_its_line(file: Path, content: str | bytes, said: str) -> None:
    assert refusal(file, content).startswith(said)


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json does not exist"):
        list(read_rows(str(tmp_path / "none.json")))
    with pytest.raises(DataError, match="holds no data file"):
        list(read_rows(str(tmp_path)))
    with pytest.raises(DataError, match="no data is given"):
        list(read_rows(""))
    with pytest.raises(DataError):
        list(read_rows("a\0b"))
    with pytest.raises(DataError):
        list(read_rows("rows" * 100))  # longer than a file name may be


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)
ROWS = st.lists(st.dictionaries(st.text(max_size=5), JSON, max_size=4), min_size=1, max_size=5)
SPACE = st.text(" \t\r\n", max_size=4)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("read") / "rows.json"


@given(ROWS, st.sampled_from([None, 2]), st.booleans())
def test_what_json_writes_reads_back_equal(scratch: Path, rows: list[Any], indent: int | None, ascii: bool) -> None:
    assert [row for _, row in read(scratch, json.dumps(rows, indent=indent, ensure_ascii=ascii))] == rows
    assert [row for _, row in read(scratch, "\n".join(json.dumps(row, ensure_ascii=ascii) for row in rows))] == rows


@given(st.data(), ROWS)
def test_lines_are_right_however_a_list_is_laid_out(scratch: Path, data: st.DataObject, rows: list[Any]) -> None:
    text, lines = data.draw(SPACE) + "[", []
    for number, row in enumerate(rows):
        text += ("," if number else "") + data.draw(SPACE)
        lines.append(text.count("\n") + 1)
        text += json.dumps(row, indent=data.draw(st.sampled_from([None, 1]))) + data.draw(SPACE)
    assert read(scratch, text + "]" + data.draw(SPACE)) == list(zip(lines, rows, strict=True))


@given(st.data(), ROWS, st.booleans())
def test_a_damaged_file_gives_rows_or_an_error_that_names_it(
    scratch: Path, data: st.DataObject, rows: list[Any], as_list: bool
) -> None:
    content = json.dumps(rows, indent=1) if as_list else "\n".join(map(json.dumps, rows))
    damaged = bytearray(content.encode())
    place = data.draw(st.integers(0, len(damaged) - 1))
    match data.draw(st.sampled_from(["cut", "change", "insert", "remove"])):
        case "cut":
            del damaged[place:]
        case "change":
            damaged[place] = data.draw(st.integers(0, 255))
        case "insert":
            damaged[place:place] = data.draw(st.binary(min_size=1, max_size=3))
        case "remove":
            del damaged[place]
    last = damaged.count(b"\n") + 1
    try:
        found = read(scratch, bytes(damaged))
    except DataError as error:
        line = re.match(r":(\d+): ", error.what.removeprefix(str(scratch)))
        found = [(int(line[1]) if line else 1, {})]  # a file without a row has no line to name
    assert all(1 <= line <= last for line, _ in found)


def big(file: Path, rows: int, layout: str) -> int:
    """Write rows in a layout; returns the bytes."""
    row = {"instruction": "q" * 200, "output": "a" * 200}
    with gzip.open(file, "wt") if file.suffix == ".gz" else file.open("w") as stream:
        stream.write({"list": "[", "lines": "", "table": "instruction,output\n"}[layout])
        for number in range(rows):
            text = ",".join(row.values()) if layout == "table" else json.dumps(row)
            stream.write(f"{',' if number and layout == 'list' else ''}{text}\n")
        stream.write("]" if layout == "list" else "")
    return file.stat().st_size


@pytest.mark.parametrize(
    ("name", "layout"),
    [("r.json", "list"), ("r.jsonl", "lines"), ("r.csv", "table"), ("r.json.gz", "list"), ("r.jsonl.gz", "lines")],
)
def test_memory_does_not_grow_with_the_file(tmp_path: Path, name: str, layout: str) -> None:
    def most(rows: int) -> int:
        big(tmp_path / name, rows, layout)
        tracemalloc.start()
        assert sum(1 for _ in read_rows(str(tmp_path / name))) == rows
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert most(20_000) < most(500) + 2**20 < 4 * 2**20


def test_a_row_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    for name, content in (("r.jsonl", '{"a": "'), ("r.json", '[{"a": "')):
        with gzip.open(tmp_path / f"{name}.gz", "wt", compresslevel=1) as stream:
            stream.write(content)
            for _ in range(70):
                stream.write("x" * 2**20)
        with pytest.raises(DataError, match="more than 67108864"):
            list(read_rows(str(tmp_path / f"{name}.gz")))


ODD = [b"\xff\xfe", b"\xed\xa0\x80", b"[" * 3000, b"9" * 5000, b'"a": NaN,', b'"', b"\0", b"\r"]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["r.json", "r.jsonl", "r.csv", "r.parquet", "r.json.gz", "r.jsonl.xz", "r.csv.bz2"])
def test_ten_thousand_mutated_files_give_rows_or_an_error_that_names_them(tmp_path: Path, name: str) -> None:
    random = Random(name)
    rows = [{"instruction": f'q {n}, \n鱼 "x"', "output": "a" * n, "weight": n + 0.5} for n in range(12)]
    file = tmp_path / name
    if name.endswith("parquet"):
        parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    else:
        table = io.StringIO()
        writer = csv.DictWriter(table, rows[0])
        writer.writeheader()
        writer.writerows(rows)
        text = {"json": json.dumps(rows), "jsonl": "\n".join(map(json.dumps, rows)), "csv": table.getvalue()}
        pack = {".gz": gzip.compress, ".xz": lzma.compress, ".bz2": bz2.compress}.get(file.suffix, bytes)
        file.write_bytes(pack(text[name.split(".")[1]].encode()))
    whole = file.read_bytes()
    for _ in range(1500):
        damaged = bytearray(whole)
        for _ in range(random.choice([1, 1, 2, 8])):
            place = random.randrange(len(damaged))
            odd = random.choice(
                [b"\xff\xfe", b"\xed\xa0\x80", b"[" * 3000, b"9" * 5000, b'"a": NaN,', b'"', b"\0", b"\r"]
            )
            match random.randrange(5):
                case 0:
                    damaged[place] = random.randrange(256)
                case 1:
                    damaged = damaged[: place + 1]
                case 2:
                    damaged[place:place] = odd
                case 3:
                    del damaged[place : place + random.randrange(1, 9)]
                    damaged = damaged or bytearray(b" ")
                case 4:
                    damaged[place:place] = damaged[place : place + 60]
        file.write_bytes(damaged)
        said = f"{file} is fine -> go on"
        try:
            list(read_conversations(read_rows(str(file)), "alpaca"))
        except DataError as error:
            said = str(error)
        assert str(file) in said
        assert "->" in said


def test_a_key_that_stands_twice_among_very_many_is_soon_found(tmp_path: Path) -> None:
    keys = ",".join(f'"k{number}":1' for number in range(200_000))
    with pytest.raises(DataError, match=r":1: not usable JSON: the key 'k199999' stands twice"):
        read(tmp_path / "r.jsonl", f'{{{keys},"k199999":1}}')


@pytest.mark.parametrize("value", ["[" * 101 + "]" * 101, '{"a":' * 900 + "1" + "}" * 900])
def test_what_is_nested_too_deep_to_be_walked_is_refused(tmp_path: Path, value: str) -> None:
    with pytest.raises(DataError, match=r":1: nested too deep, more than 100 levels"):
        read(tmp_path / "r.jsonl", f'{{"a": {value}}}')


def test_a_number_that_is_infinite_to_a_machine_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r":1: not usable JSON: the number -1e999 is too large"):
        read(tmp_path / "r.jsonl", '{"a": [-1e999]}')
