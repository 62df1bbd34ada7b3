import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.data import read_rows
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
