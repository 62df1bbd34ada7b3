import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.data import hold_out
from graft.data.keys import Keys
from graft.data.split import mix_counts
from graft.errors import DataError


def keys(*said: int) -> Keys:
    return np.array(said, dtype=np.uint64)


@given(st.integers(2, 200), st.data(), st.integers(0, 2**32))
def test_so_many_rows_as_asked_for_are_kept_where_no_two_are_alike(rows: int, data: st.DataObject, seed: int) -> None:
    count = data.draw(st.integers(0, rows - 1))
    chosen = hold_out(keys(*range(rows)), held_out=count, seed=seed)
    assert chosen.sum() == count
    assert (hold_out(keys(*range(rows)), held_out=count, seed=seed) == chosen).all()


@given(st.lists(st.integers(0, 20), min_size=2, max_size=60), st.floats(0.01, 0.9), st.integers(0, 99))
def test_copies_go_the_same_way(said: list[int], share: float, seed: int) -> None:
    try:
        chosen = hold_out(keys(*said), held_out=share, seed=seed)
    except DataError:
        return
    assert 0 < chosen.sum() <= max(1, round(share * len(said))) < len(said)
    held = {key for key, is_held in zip(said, chosen, strict=True) if is_held}
    assert not held & {key for key, is_held in zip(said, chosen, strict=True) if not is_held}


@given(st.integers(20, 300), st.integers(1, 9), st.integers(0, 99), st.randoms(use_true_random=False))
def test_rows_that_come_or_change_places_move_few_others(rows: int, more: int, seed: int, order: random.Random) -> None:
    def held(said: list[int]) -> set[int]:
        chosen = hold_out(keys(*said), held_out=0.2, seed=seed)
        return {key for key, is_held in zip(said, chosen, strict=True) if is_held}

    before = list(range(rows))
    after = [*before, *range(10**6, 10**6 + more)]
    order.shuffle(after)
    assert len(held(before) - held(after)) <= more
    order.shuffle(before)
    assert held(before) == held(sorted(before))


@pytest.mark.parametrize(
    ("rows", "held_out", "count"),
    [(100, 0.05, 5), (100, 5, 5), (100, 0, 0), (100, 0.0, 0), (10, 0.001, 1), (10, 0.5, 5), (7, 0.25, 2), (3, 1.0, 1)],
)
def test_a_share_and_a_count(rows: int, held_out: float, count: int) -> None:
    assert hold_out(keys(*range(rows)), held_out=held_out, seed=1).sum() == count


def test_another_seed_keeps_other_rows() -> None:
    said = keys(*range(1000))
    chosen = {hold_out(said, held_out=10, seed=seed).tobytes() for seed in range(20)}
    assert len(chosen) == 20


def test_the_draw_is_the_same_on_every_machine() -> None:
    assert np.flatnonzero(hold_out(keys(*range(1000)), held_out=5, seed=42)).tolist() == [61, 349, 586, 642, 923]


@pytest.mark.parametrize(("rows", "held_out"), [(10, 10), (10, 11), (10, 0.99), (1, 0.05), (0, 0)])
def test_nothing_left_to_train_on_is_an_error(rows: int, held_out: float) -> None:
    with pytest.raises(DataError) as caught:
        hold_out(keys(*range(rows)), held_out=held_out, seed=1)
    assert f"leaves nothing of {rows} rows" in caught.value.what
    assert "data.held_out" in caught.value.fix


def test_rows_that_are_all_copies_cannot_be_measured_on() -> None:
    with pytest.raises(DataError, match=r"more copies than data\.held_out 0\.05 keeps"):
        hold_out(keys(*[7] * 100), held_out=0.05, seed=1)


@pytest.mark.parametrize("seed", range(8))
def test_rows_with_too_many_copies_are_passed_over(seed: int) -> None:
    chosen = hold_out(keys(*[7] * 50, *[8] * 50, 9), held_out=3, seed=seed)
    assert np.flatnonzero(chosen).tolist() == [100]


def test_rows_that_all_have_a_copy_but_one_are_soon_told() -> None:
    said = np.repeat(np.arange(200_000, dtype=np.uint64), 2)[:-1]
    assert np.flatnonzero(hold_out(said, held_out=1, seed=1)).tolist() == [len(said) - 1]


@given(st.lists(st.integers(0, 30), min_size=2, max_size=60), st.integers(1, 20), st.integers(0, 9))
def test_rows_are_drawn_a_block_at_a_time(said: list[int], block: int, seed: int) -> None:
    def chosen() -> list[bool] | str:
        try:
            return hold_out(keys(*said), held_out=0.3, seed=seed).tolist()
        except DataError as error:
            return error.what

    whole = chosen()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graft.data.split._BLOCK", block)
        assert chosen() == whole


def test_rows_are_taken_as_often_as_their_shares_say() -> None:
    counts = mix_counts(np.array([0.25] * 400 + [1.5] * 100 + [2] * 50), seed=3)
    assert 70 < counts[:400].sum() < 130
    assert 120 < counts[400:500].sum() < 180
    assert (counts[500:] == 2).all()


def test_how_often_a_row_is_taken_depends_on_nothing_but_its_number_share_and_seed() -> None:
    halves = mix_counts(np.full(300, 0.5), seed=3)
    assert (mix_counts(np.full(200, 0.5), seed=3) == halves[:200]).all()
    assert (mix_counts(np.array([0.5] * 150 + [1] * 150), seed=3)[:150] == halves[:150]).all()
    assert (mix_counts(np.full(300, 0.5), seed=4) != halves).any()
