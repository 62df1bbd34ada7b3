import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.data import mix, split
from graft.errors import DataError


@given(st.integers(2, 200), st.data(), st.integers(0, 2**32))
def test_every_item_is_in_one_part_and_both_keep_the_order(items: int, data: st.DataObject, seed: int) -> None:
    count = data.draw(st.integers(0, items - 1))
    parts = split(range(items), held_out=count, seed=seed)
    assert len(parts.held_out) == count
    assert sorted(parts.train + parts.held_out) == list(range(items))
    assert parts.train == sorted(parts.train)
    assert parts.held_out == sorted(parts.held_out)
    assert split(range(items), held_out=count, seed=seed) == parts


@pytest.mark.parametrize(
    ("items", "held_out", "count"),
    [(100, 0.05, 5), (100, 5, 5), (100, 0, 0), (100, 0.0, 0), (10, 0.001, 1), (10, 0.5, 5), (7, 0.25, 2), (3, 1.0, 1)],
)
def test_a_share_and_a_count(items: int, held_out: float, count: int) -> None:
    assert len(split(range(items), held_out=held_out, seed=1).held_out) == count


def test_another_seed_keeps_other_rows() -> None:
    chosen = {tuple(split(range(1000), held_out=10, seed=seed).held_out) for seed in range(20)}
    assert len(chosen) == 20


def test_equal_rows_are_told_apart() -> None:
    parts = split(["a"] * 10, held_out=3, seed=0)
    assert (len(parts.train), len(parts.held_out)) == (7, 3)


@pytest.mark.parametrize(("items", "held_out"), [(10, 10), (10, 11), (10, 0.99), (1, 0.05), (0, 0)])
def test_nothing_left_to_train_on_is_an_error(items: int, held_out: float) -> None:
    with pytest.raises(DataError) as caught:
        split(range(items), held_out=held_out, seed=1)
    assert f"leaves nothing of {items} rows" in caught.value.what
    assert "data.held_out" in caught.value.fix


def test_rows_are_taken_as_often_as_their_shares_say() -> None:
    taken = mix(["a"] * 400 + ["b"] * 100 + ["c"] * 50, [0.25] * 400 + [1.5] * 100 + [2] * 50, seed=3)
    assert 70 < taken.count("a") < 130
    assert 120 < taken.count("b") < 180
    assert taken.count("c") == 100
    assert "".join(taken) == "".join(sorted(taken)), "in order"


def test_what_is_taken_of_a_row_depends_on_nothing_but_its_number_share_and_seed() -> None:
    rows = list(range(300))
    halves = mix(rows, [0.5] * 300, seed=3)
    assert mix(rows[:200], [0.5] * 200, seed=3) == [row for row in halves if row < 200]
    assert mix(rows, [0.5] * 150 + [1] * 150, seed=3) == [row for row in halves if row < 150] + rows[150:]
    assert mix(rows, [0.5] * 300, seed=4) != halves
