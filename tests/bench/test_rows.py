import json
import random
from pathlib import Path
from typing import Any

import pytest

from graft.bench.rows import InOrder, grouped_by_length, is_encoded, load_encoded, read_encoded, write_encoded
from graft.data import read_rows
from graft.errors import DataError
from graft.records import TokenSequence

LENGTHS = random.Random(0).choices(range(2, 60), k=30)
SAMPLES = [TokenSequence((1, *range(5, 4 + length)), (False,) + (True,) * (length - 1)) for length in LENGTHS]


def test_rows_come_back_as_they_were_written(tmp_path: Path) -> None:
    write_encoded(tmp_path / "rows.jsonl", SAMPLES)
    read = load_encoded(tmp_path / "rows.jsonl")
    assert [(s.ids, s.trained) for s in read] == [(s.ids, s.trained) for s in SAMPLES]
    assert str(read[2].source).endswith("rows.jsonl:3")


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"ids": [1, 2]}, "`trained` is no list"),
        ({"ids": [1, -2], "trained": [0, 1]}, "`ids` is no list of whole numbers"),
        ({"ids": [1, "2"], "trained": [0, 1]}, "`ids` is no list of whole numbers"),
        ({"ids": [], "trained": []}, "`ids` is no list"),
        ({"ids": [1, 2], "trained": [0, 2]}, "something else than 0 and 1"),
        ({"ids": [1, 2, 3], "trained": [0, 1]}, "3 ids, 2 marks"),
        ({"ids": [1, 2], "trained": [1, 1]}, "the first 1"),
        ({"ids": [1, 2], "trained": [0, 0]}, "0 of them 1"),
    ],
)
def test_a_faulty_row_is_named(row: dict[str, Any], fault: str, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"ids": [1, 2], "trained": [0, 1]}) + "\n" + json.dumps(row))
    with pytest.raises(DataError, match=f"rows.jsonl:2: .*{fault}"):
        read_encoded(list(read_rows(str(path))))


def test_rows_of_text_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": "Say hello.", "output": "Hello!"}\n')
    assert not is_encoded(list(read_rows(str(path))))
    write_encoded(path, SAMPLES)
    assert is_encoded(list(read_rows(str(path))))


def test_rows_are_taken_in_order_each_once() -> None:
    batches = InOrder(SAMPLES, global_batch=8)
    steps = [batches.of_step(step) for step in range(1, batches.total_steps + 1)]
    assert [len(step) for step in steps] == [8, 8, 8, 6]
    assert [sample for step in steps for sample in step] == SAMPLES


def test_batches_grouped_by_length_hardly_pad() -> None:
    def padded(order: list[TokenSequence]) -> int:
        return sum(len(batch) * max(map(len, batch)) for batch in (order[i : i + 5] for i in range(0, 30, 5)))

    grouped = grouped_by_length(SAMPLES, global_batch=5, seed=1)
    assert sorted(map(id, grouped)) == sorted(map(id, SAMPLES))
    assert padded(grouped) < 1.3 * sum(LENGTHS) < padded(SAMPLES)
    assert grouped_by_length(SAMPLES, global_batch=5, seed=1) == grouped
