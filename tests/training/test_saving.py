"""Checkpoints in the background: the bits of the moment, one at a time, and no error is lost."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from graft.errors import DiskError
from graft.training import Checkpoints, Saved, Saves, State, Stepped
from tests.training.test_checkpoint import ORIGIN, parts


def test_what_is_saved_is_what_stood_when_it_began(tmp_path: Path) -> None:
    bank, adapter, optimizer = parts()
    expected = Checkpoints(tmp_path / "at once", keep=1).save(State(1, None), adapter, optimizer, bank.model, ORIGIN)
    go_on = threading.Event()

    def snapshot(step: int, owed: Stepped | None) -> Callable[[], Path]:
        write = Checkpoints(tmp_path / "later", keep=1).snapshot(
            State(step, None), adapter, optimizer, bank.model, ORIGIN
        )
        return lambda: (go_on.wait(30), write())[1]

    saves = Saves(snapshot)
    saves.begin(1)
    assert saves.take() == [], "it goes on beside the training"
    for _, parameter in adapter.named_parameters():
        parameter.grad = torch.full_like(parameter, 3.0)
    optimizer.step()
    go_on.set()
    (saved,) = saves.take(wait=True)
    assert saved == Saved(1, tmp_path / "later" / "step-000001")
    for file in expected.iterdir():
        assert file.read_bytes() == (saved.folder / file.name).read_bytes(), file.name


def test_the_next_waits_for_the_one_before(tmp_path: Path) -> None:
    order: list[str] = []

    def snapshot(step: int, owed: Stepped | None) -> Callable[[], Path]:
        order.append(f"copy {step}")

        def write() -> Path:
            order.append(f"write {step}")
            return tmp_path / str(step)

        return write

    saves = Saves(snapshot)
    for step in (1, 2, 3):
        saves.begin(step)
    taken = saves.take(wait=True)
    assert order == ["copy 1", "write 1", "copy 2", "write 2", "copy 3", "write 3"]
    assert [saved.step for saved in taken] == [1, 2, 3], "each is told of once"
    assert saves.take(wait=True) == []
    assert saves.last == 3


@pytest.mark.parametrize("ask", ["begin", "take"])
def test_an_error_comes_where_it_is_asked_for_next(ask: str, tmp_path: Path) -> None:
    def snapshot(step: int, owed: Stepped | None) -> Callable[[], Path]:
        def write() -> Path:
            raise DiskError("the disk is full")

        return write

    saves = Saves(snapshot)
    saves.begin(1)
    saves.settle()
    with pytest.raises(DiskError, match="the disk is full"):
        saves.begin(2) if ask == "begin" else saves.take(wait=True)
    assert saves.take(wait=True) == [], "it is raised once"
