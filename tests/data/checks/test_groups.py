import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from graft.data.checks.groups import crowded, first_of, leaders

ROWS = st.lists(st.tuples(st.integers(0, 4), st.booleans()))


@given(ROWS)
def test_rows_whose_key_another_has_stand_group_by_group(rows: list[tuple[int, bool]]) -> None:
    among = [number for number, (_, chosen) in enumerate(rows) if chosen]
    keys, chosen = np.array([key for key, _ in rows], dtype=np.uint64), np.array([on for _, on in rows], dtype=bool)
    numbers, groups = crowded(keys, chosen)
    by_key = [[number for number in among if rows[number][0] == key] for key in range(5)]
    expected = [group for group in by_key if len(group) > 1]
    assert numbers.tolist() == [number for group in expected for number in group]
    assert groups.tolist() == [place for place, group in enumerate(expected) for _ in group]
    leading, begins = leaders(numbers, groups)
    assert leading.tolist() == [group[0] for group in expected for _ in group]
    assert numbers[begins].tolist() == [group[0] for group in expected]


@given(ROWS)
def test_the_first_with_a_key_is_found(rows: list[tuple[int, bool]]) -> None:
    keys = np.array([[key, key * 7] for key, _ in rows], dtype=np.uint64).reshape(-1, 2)
    first = first_of(keys, np.array([on for _, on in rows], dtype=bool))
    assert first.tolist() == [
        next(other for other, (that, on) in enumerate(rows) if on and that == key) if chosen else number
        for number, (key, chosen) in enumerate(rows)
    ]


def test_halves_of_keys_that_agree_by_chance_are_no_copies() -> None:
    keys = np.array([[1, 2], [1, 3], [1, 2], [4, 2]], dtype=np.uint64)
    assert first_of(keys, np.ones(4, dtype=bool)).tolist() == [0, 1, 0, 3]
    assert first_of(keys, np.array([False, True, True, True])).tolist() == [0, 1, 2, 3]
