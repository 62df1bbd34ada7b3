import csv
import datetime
import gzip
import io
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.data import read_conversations, read_rows
from graft.data.tables import _STRETCH
from graft.errors import DataError


def read(file: Path) -> list[tuple[int, Any]]:
    return [(row.source.line, dict(row.fields)) for row in read_rows(str(file))]


def written(file: Path, content: str | bytes) -> Path:
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    return file


# CSV


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.csv", 'a,b\n1,"x, ""y"""\n"2\n3",z\n\n4,\n'),
        ("rows.csv", '\ufeffa,b\r\n1,"x, ""y"""\r\n"2\n3",z\r\n\r\n4,\r\n'),
        ("rows.tsv", 'a\tb\n1\t"x, ""y"""\n"2\n3"\tz\n\n4\t\n'),
    ],
)
def test_a_table_gives_texts_with_the_line_where_each_row_begins(tmp_path: Path, name: str, content: str) -> None:
    found = read(written(tmp_path / name, content))
    assert found == [(2, {"a": "1", "b": 'x, "y"'}), (3, {"a": "2\n3", "b": "z"}), (6, {"a": "4", "b": ""})]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("a,b\n1,2\n1,2,3\n", ":3: 3 cells, and there are 2 columns"),
        ("a,b\n1\n", ":2: 1 cells"),
        ('a,b\n1,2\n3,"never closed\n5,6\n', ":3: not CSV"),
        ('a,b\n"1"x,2\n', ":2: not CSV"),
        ("a,a\n1,2\n", ":1: the column `a` stands twice"),
        ("a;b\n1;2\n", ":1: one column `a;b`"),
        (b"a,b\n1,\xff\n", ":2: byte 0xff is not UTF-8"),
        ("a,b\n", " holds no row"),
        ("", " is empty"),
    ],
)
def test_a_broken_table_is_refused_with_its_line(tmp_path: Path, content: str | bytes, said: str) -> None:
    file = written(tmp_path / "rows.csv", content)
    with pytest.raises(DataError) as caught:
        read(file)
    assert caught.value.what.removeprefix(str(file)).startswith(said)
    assert caught.value.fix


def test_lists_in_a_table_are_json_texts(tmp_path: Path) -> None:
    said = '[{""role"": ""user"", ""content"": ""q""}, {""role"": ""assistant"", ""content"": ""a""}]'
    file = written(tmp_path / "rows.csv", f'conversations,tools,weight\n"{said}",,0.5\n')
    (found,) = read_conversations(read_rows(str(file)))
    assert [(m.role, m.content) for m in found.messages] == [("user", "q"), ("assistant", "a")]
    assert (found.tools, found.weight) == ((), 0.5)


CELLS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\0\ufeff"), max_size=6)


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=5))
def test_what_csv_writes_reads_back_equal(rows: list[tuple[str, str]]) -> None:
    from graft.data.tables import csv_items

    table = io.StringIO()
    csv.writer(table).writerows([("a", "b"), *rows])
    found = csv_items(io.BytesIO(table.getvalue().encode()), "rows.csv", delimiter=",")
    assert [tuple(fields.values()) for _, fields in found] == rows


# Parquet


def table(file: Path, rows: list[dict[str, Any]]) -> Path:
    pq.write_table(pa.Table.from_pylist(rows), file, row_group_size=2)
    return file


def test_parquet_gives_rows_with_their_numbers_and_without_the_nulls_of_the_table(tmp_path: Path) -> None:
    said = [
        {"messages": [{"role": "user", "content": "q", "loss": None}, {"role": "assistant", "content": "a"}]},
        {"messages": [{"role": "user", "content": "鱼"}, {"role": "assistant", "content": "b", "loss": False}]},
        {"messages": [{"role": "user", "content": "c"}, {"role": "assistant", "content": "d"}]},
    ]
    file = table(tmp_path / "rows.parquet", said)
    assert [number for number, _ in read(file)] == [1, 2, 3]
    assert read(file)[0][1] == {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    found = list(read_conversations(read_rows(str(file))))
    assert [c.messages[1].trained for c in found] == [True, False, True]


def test_a_faulty_row_of_parquet_is_named_by_its_number(tmp_path: Path) -> None:
    file = table(tmp_path / "rows.parquet", [{"instruction": "q", "output": text} for text in ("a", " ", "b")])
    with pytest.raises(DataError, match=r"rows.parquet:2: `output` is empty"):
        list(read_conversations(read_rows(str(file))))


def test_a_column_that_stands_twice_is_refused_by_its_name(tmp_path: Path) -> None:
    texts = pa.array(["q"])
    file = tmp_path / "rows.parquet"
    pq.write_table(pa.table([texts, pa.array(["a"]), texts], names=["instruction", "output", "instruction"]), file)
    with pytest.raises(DataError, match=r"rows.parquet: the column `instruction` stands twice") as caught:
        read(file)
    assert "give every column a name" in caught.value.fix
    inner = pa.StructArray.from_arrays([texts, texts], names=["a", "a"])
    pq.write_table(pa.table([pa.ListArray.from_arrays([0, 1], inner)], names=["deep"]), file)
    with pytest.raises(DataError, match=r"the column `deep\..*a` stands twice"):
        read(file)


NOON = 1_721_995_200_000_000_000  # ns; 2024-07-26 12:00 UTC


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        (pa.timestamp("ns"), NOON + 1, "2024-07-26T12:00:00.000000001"),
        (pa.timestamp("ns"), NOON + 1_500_000_000, "2024-07-26T12:00:01.500000"),
        (pa.timestamp("ns"), NOON, "2024-07-26T12:00:00"),
        (pa.timestamp("ns"), -1, "1969-12-31T23:59:59.999999999"),
        (pa.timestamp("ns", "UTC"), NOON + 1, "2024-07-26T12:00:00.000000001+00:00"),
        (pa.timestamp("ns", "Europe/Berlin"), NOON + 20, "2024-07-26T14:00:00.000000020+02:00"),
        (pa.time64("ns"), 3_600_000_000_001, "01:00:00.000000001"),
        (pa.duration("ns"), 86_400_000_000_001, "1 day, 0:00:00.000000001"),
        (pa.timestamp("ns"), None, None),
    ],
)
def test_times_in_nanoseconds_are_texts_with_nothing_lost(
    tmp_path: Path, kind: pa.DataType, value: int | None, text: str | None
) -> None:
    cells = pa.array([value], kind)
    lists = pa.ListArray.from_arrays([0, 1], cells)
    columns = {"q": pa.array(["a"]), "at": cells, "list": lists, "deep": pa.StructArray.from_arrays([lists], ["at"])}
    pq.write_table(pa.table(columns), tmp_path / "r.parquet")
    assert read(tmp_path / "r.parquet") == [(1, {"q": "a", "at": text, "list": [text], "deep": {"at": [text]}})]


def test_maps_of_times_in_nanoseconds_are_as_other_maps(tmp_path: Path) -> None:
    kinds = (pa.timestamp("ns"), pa.timestamp("us"))
    columns = {str(kind): pa.array([[("a", 1), ("b", None)], None], pa.map_(pa.string(), kind)) for kind in kinds}
    pq.write_table(pa.table({"q": ["x", "y"], **columns}), tmp_path / "r.parquet")
    ((_, first), _) = read(tmp_path / "r.parquet")
    exact, rounded = (first[str(kind)] for kind in kinds)
    assert exact == [["a", "1970-01-01T00:00:00.000000001"], ["b", None]]
    assert rounded == [["a", "1970-01-01T00:00:00.000001"], ["b", None]]


def test_what_no_row_can_hold_is_refused_by_row_and_column(tmp_path: Path) -> None:
    far = pa.array([0, 10**15], pa.timestamp("s"))
    pq.write_table(pa.table({"q": pa.array(["a", "b"]), "at": far}), tmp_path / "r.parquet")
    with pytest.raises(DataError, match=r"r.parquet: row 2: what the column `at` holds cannot be read") as caught:
        read(tmp_path / "r.parquet")
    assert "leave it out" in caught.value.fix


@pytest.mark.parametrize("cut", [4, 40, -9])
def test_broken_parquet_is_refused(tmp_path: Path, cut: int) -> None:
    file = table(tmp_path / "rows.parquet", [{"a": "x" * 50}] * 9)
    file.write_bytes(file.read_bytes()[:cut])
    with pytest.raises(DataError, match=r"rows.parquet: row 1: not Parquet"):
        read(file)


def test_without_pyarrow_the_way_to_install_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = table(tmp_path / "rows.parquet", [{"a": "x"}])
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(DataError) as caught:
        read(file)
    assert "pip install 'graft-llm[parquet]'" in caught.value.fix


# Text


def test_a_text_is_rows_of_whole_lines_and_nothing_of_it_is_lost(tmp_path: Path) -> None:
    text = "".join(f"Line {number}, 鱼.\n" for number in range(3 * _STRETCH // 14))
    found = read(written(tmp_path / "book.txt", text))
    assert len(found) > 2
    assert "".join(fields["text"] for _, fields in found) == text
    assert [text.splitlines()[line - 1] for line, _ in found] == [fields["text"].splitlines()[0] for _, fields in found]


def test_a_header_of_very_many_columns_is_soon_read(tmp_path: Path) -> None:
    names = ",".join(f"c{number}" for number in range(200_000))
    with pytest.raises(DataError, match=r":1: the column `c0` stands twice"):
        read(written(tmp_path / "rows.csv", f"{names},c0\n1\n"))


def test_a_row_of_cells_without_end_is_refused_before_it_fills_the_memory(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv.gz"
    with gzip.open(file, "wt", compresslevel=1) as stream:
        stream.write("a,b\n1,2\n")
        for _ in range(70):
            stream.write('"' + "x" * 2**20 + '\n",')
    with pytest.raises(DataError, match=r"rows\.csv\.gz:3: a row of more than 67108864"):
        read(file)


def test_dates_decimals_and_numbers_that_are_none_are_read_as_json_would_hold_them(tmp_path: Path) -> None:
    day = datetime.datetime(2024, 7, 26, 12, 30)
    row = {"day": day, "price": Decimal("1.50"), "score": float("nan"), "deep": [{"at": day.date(), "n": float("inf")}]}
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "r.parquet")
    plain = {"day": "2024-07-26T12:30:00", "price": "1.50", "score": None, "deep": [{"at": "2024-07-26"}]}
    assert read(tmp_path / "r.parquet") == [(1, plain)]
