from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.data import spill
from graft.data.spill import Table, Texts, spill_folder
from graft.errors import DataError

ROOMS = st.sampled_from([1, 20, 2**20])
"""All on disk, some, and none."""


@given(st.lists(st.tuples(st.integers(0, 255), st.integers(-(2**63), 2**63 - 1))), ROOMS)
def test_records_are_those_that_were_added(rows: list[tuple[int, int]], room: int) -> None:
    shape = np.dtype([("flag", "u1"), ("line", "<i8")])
    table = Table(shape)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "_ROOM", room)
        for row in rows:
            table.add(np.array([row], dtype=shape))
    assert [tuple(row) for row in table.finish().tolist()] == rows
    assert [tuple(row) for row in table.finish().tolist()] == rows


@given(st.lists(st.text()), ROOMS)
def test_texts_are_those_that_were_added(texts: list[str], room: int) -> None:
    kept = Texts()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(spill, "_ROOM", room)
        for text in texts:
            kept.add(text)
    assert list(kept) == texts
    with pytest.raises(IndexError):
        kept[len(texts)]


def test_nothing_is_left_behind(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path))
    texts = Texts()
    for number in range(3):
        texts.add(str(number) * spill._ROOM)
    assert not list(tmp_path.iterdir()), "a file without a name"
    assert texts[2][:3] == "222"


def test_where_nothing_can_be_kept_the_place_of_the_system_is_taken(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("GRAFT_CACHE", str(tmp_path / "file" / "cache"))
    assert spill_folder() is None
    table = Table("u1")
    table.add(bytes(2 * spill._ROOM))
    assert len(table.finish()) == 2 * spill._ROOM


def test_what_cannot_be_written_is_said_with_a_way_out(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    table = Table("u1")
    table._file = (tmp_path / "file").open("rb")
    with pytest.raises(DataError, match="what is known of the rows cannot be kept in") as caught:
        table.add(bytes(spill._ROOM))
    assert "GRAFT_CACHE" in caught.value.fix
