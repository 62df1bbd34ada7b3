from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.data.parts import choose_rows, draw
from graft.errors import DataError
from graft.records import Row, Source


def rows_of(contents: list[dict[str, Any]]) -> list[Row]:
    return [Row(Source("rows.jsonl", line), fields) for line, fields in enumerate(contents, start=1)]


def held(contents: list[dict[str, Any]], **more: Any) -> set[int]:
    """What is held out, by the number in `n`."""
    chosen = choose_rows(rows_of(contents), **{"held_out": 0.3, "seed": 1, **more})
    return {row["n"] for row, is_chosen in zip(contents, chosen, strict=True) if is_chosen}


def numbered(start: int, stop: int, kinds: int = 3) -> list[dict[str, Any]]:
    return [{"n": n, "kind": n % kinds} for n in range(start, stop)]


@given(st.integers(1, 200), st.integers(0, 50), st.randoms(use_true_random=False), st.integers(0, 99))
def test_rows_that_come_or_go_or_change_places_move_no_other(first: int, more: int, order: Any, seed: int) -> None:
    before = numbered(0, 60 + first)
    after = [*before, *numbered(1000, 1000 + more)]
    order.shuffle(after)
    kept = held(before, seed=seed)
    assert held(after, seed=seed) & {row["n"] for row in before} == kept
    gone = order.randrange(len(before))
    assert held([row for row in before if row["n"] != gone], seed=seed) == kept - {gone}


@given(st.integers(10, 60), st.integers(1, 6), st.integers(0, 99))
def test_by_a_field_every_value_has_its_share_and_a_row_moves_one_at_most(size: int, more: int, seed: int) -> None:
    before = numbered(0, 3 * size)
    chosen = held(before, by="kind", seed=seed)
    for kind in range(3):
        assert sum(n % 3 == kind for n in chosen) == round(0.3 * size)
    after = [*before, *({"n": 3 * (1000 + n), "kind": 0} for n in range(more))]
    moved = (held(after, by="kind", seed=seed) & set(range(3 * size))) ^ chosen
    assert len(moved) <= more
    assert all(n % 3 == 0 for n in moved), "the other values have what they had"


def test_equal_rows_stay_together_whatever_the_order_of_their_keys() -> None:
    assert draw({"a": 1, "b": "x"}, 3) == draw({"b": "x", "a": 1}, 3) != draw({"a": 1, "b": "x"}, 4)
    for by in ("", "kind"):
        chosen = choose_rows(rows_of(numbered(0, 80) * 2), held_out=0.3, seed=0, by=by)
        assert (chosen[:80] == chosen[80:]).all()


def test_the_share_is_what_was_asked_for_and_the_seed_draws_others() -> None:
    rows = numbered(0, 5000)
    assert 0.28 * 5000 < len(held(rows)) < 0.32 * 5000
    assert held(rows) != held(rows, seed=2)


def test_an_empty_part_and_a_missing_field_are_errors() -> None:
    with pytest.raises(DataError, match="leaves one part of 1 rows empty"):
        choose_rows(rows_of(numbered(0, 1)), held_out=0.3, seed=1)
    with pytest.raises(DataError, match=r"rows.jsonl:2: the row has no `kind`"):
        choose_rows(rows_of([*numbered(0, 1), {"n": 1}]), held_out=0.3, seed=1, by="kind")
