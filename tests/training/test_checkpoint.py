"""Checkpoints: kept, found, and passed over where they are broken."""

import os
import shutil
from pathlib import Path

import pytest
import torch

from graft.adapters import METHODS, Adapter, Bank, Provenance
from graft.config import LoraConfig, TrainConfig
from graft.errors import DiskError, RunError
from graft.training import Checkpoints, State, Stepped, build_optimizer, read_state, restore
from tests.families import build

ORIGIN = Provenance("base", "auto", "print", {}, {})


def parts(rank: int = 2, optimizer: str = "adamw") -> tuple[Bank, Adapter, torch.optim.Optimizer]:
    bank = Bank(build("llama-gqa", dtype=torch.float32))
    adapter = METHODS["lora"].create(bank.model, LoraConfig(r=rank, target_modules=["q_proj"]), seed=1)
    bank.add(adapter)
    settings = TrainConfig.model_validate({"optimizer": optimizer})
    built = build_optimizer(list(adapter.named_parameters()), settings)
    for _, parameter in adapter.named_parameters():
        parameter.grad = torch.ones_like(parameter)
    built.step()
    return bank, adapter, built


def save(folder: Path, *numbers: int, keep: int = 3) -> Checkpoints:
    bank, adapter, optimizer = parts()
    checkpoints = Checkpoints(folder, keep=keep)
    for step in numbers:
        checkpoints.save(State(step, 1.5), adapter, optimizer, bank.model, ORIGIN)
    return checkpoints


def test_the_newest_are_kept(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 10, 20, 30, 40, keep=2)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000030", "step-000040"]
    assert checkpoints.newest() == (tmp_path / "step-000040", [])


@pytest.mark.parametrize(
    "file", ["adapter_model.safetensors", "optimizer.safetensors", "state.json", "adapter_config.json"]
)
def test_a_broken_one_is_passed_over_and_named(tmp_path: Path, file: str) -> None:
    checkpoints = save(tmp_path, 1, 2)
    path = tmp_path / "step-000002" / file
    content = bytearray(path.read_bytes())
    content[-2] ^= 4
    path.write_bytes(content)
    newest, faults = checkpoints.newest()
    assert newest == tmp_path / "step-000001"
    assert len(faults) == 1
    assert str(path) in faults[0]


def test_nothing_is_found_where_nothing_is_whole(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 1)
    (tmp_path / "step-000001" / "MANIFEST.json").unlink()
    newest, faults = checkpoints.newest()
    assert newest is None
    assert len(faults) == 1


def test_all_comes_back(tmp_path: Path) -> None:
    save(tmp_path, 7)
    _, saved, optimizer = parts()
    _, adapter, fresh = parts()
    for _, parameter in adapter.named_parameters():
        parameter.data.zero_()
    fresh.state.clear()
    assert restore(tmp_path / "step-000007", adapter, fresh) == State(7, 1.5)
    for (_, expected), (_, found) in zip(saved.named_parameters(), adapter.named_parameters(), strict=True):
        assert torch.equal(expected, found)
        for key, value in optimizer.state[expected].items():
            assert torch.equal(fresh.state[found][key], value)


def test_the_state_of_another_adapter_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 7)
    _, adapter, optimizer = parts(rank=3)
    with pytest.raises(RunError, match="another adapter"):
        restore(tmp_path / "step-000007", adapter, optimizer)


def test_the_state_of_another_optimizer_is_refused_and_both_are_named(tmp_path: Path) -> None:
    save(tmp_path, 7)
    _, adapter, optimizer = parts(optimizer="adafactor")
    before = {name: parameter.clone() for name, parameter in adapter.named_parameters()}
    with pytest.raises(RunError, match="step-000007 holds the state of AdamW, and this run's optimizer is Adafactor"):
        restore(tmp_path / "step-000007", adapter, optimizer)
    assert all(torch.equal(parameter, before[name]) for name, parameter in adapter.named_parameters())


def test_after_a_restart_the_broken_do_not_pass_for_the_newest(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 30, 40, 50, keep=2)
    for folder in tmp_path.iterdir():
        (folder / "state.json").write_text("{}")
    (tmp_path / ".step-000060.staged-0123abc_").mkdir()
    assert checkpoints.newest()[0] is None
    checkpoints.forget_after(0)
    assert not list(tmp_path.iterdir())
    save(tmp_path, 10, keep=2)
    assert checkpoints.newest() == (tmp_path / "step-000010", [])


def test_what_people_put_beside_checkpoints_is_left_alone(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 10, 20, keep=1)
    shutil.copytree(tmp_path / "step-000020", tmp_path / "step-000020-copy")
    (tmp_path / "step-000030.tar").touch()
    save(tmp_path, 30, keep=1)
    assert checkpoints.newest() == (tmp_path / "step-000030", [])
    checkpoints.forget_after(0)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000020-copy", "step-000030.tar"]


def test_steps_are_ordered_as_numbers(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 999_999, 1_000_000, keep=1)
    assert checkpoints.newest()[0] == tmp_path / "step-1000000"


def test_the_best_stays_whatever_its_age(tmp_path: Path) -> None:
    bank, adapter, optimizer = parts()
    checkpoints = Checkpoints(tmp_path, keep=1, best=10)
    for step in (10, 20, 30):
        checkpoints.save(State(step, None), adapter, optimizer, bank.model, ORIGIN)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000010", "step-000030"]
    checkpoints.best = 30
    checkpoints.save(State(40, None), adapter, optimizer, bank.model, ORIGIN)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["step-000030", "step-000040"]


def test_no_older_one_goes_when_the_newest_does_not_read_as_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoints = save(tmp_path, 1, keep=1)
    rename = os.rename

    def spoil(source: Path, target: Path) -> None:
        rename(source, target)
        if Path(target).name == "step-000002":
            (Path(target) / "state.json").write_text("{}")

    monkeypatch.setattr(os, "rename", spoil)  # a disk that loses what it took
    bank, adapter, optimizer = parts()
    with pytest.raises(DiskError, match=r"not what is read: .*state\.json"):
        checkpoints.save(State(2, None), adapter, optimizer, bank.model, ORIGIN)
    newest, faults = checkpoints.newest()
    assert newest == tmp_path / "step-000001"
    assert len(faults) == 1


def test_a_disk_without_room_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bank, adapter, optimizer = parts()
    checkpoints = save(tmp_path / "run", 1)
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=10_000))
    with pytest.raises(DiskError, match=r"the checkpoint after step 2 takes 1\.\d MB, and .*run has 0\.0 MB left"):
        checkpoints.save(State(2, None), adapter, optimizer, bank.model, ORIGIN)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["step-000001"]
    with pytest.raises(DiskError, match=r"the run, with checkpoint\.keep 5, takes 1\.\d MB") as caught:
        Checkpoints(tmp_path / "not" / "there", keep=5).check_room(adapter)
    assert caught.value.exit_code == 4
    assert str(tmp_path) in str(caught.value)
    assert not (tmp_path / "not").exists()


def test_the_room_is_what_adapter_and_optimizer_take(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, adapter, _ = parts()
    usage = shutil.disk_usage(tmp_path)
    whole = 3 * 4 * adapter.trained_parameters
    needed = whole * (2 + 1 + 1) + whole // 3 + (1 << 20)  # two newest, the best, one that is written; the result
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=needed))
    Checkpoints(tmp_path, keep=2).check_room(adapter)
    with pytest.raises(DiskError):
        Checkpoints(tmp_path, keep=2, anchors=1).check_room(adapter)
    with pytest.raises(DiskError):
        Checkpoints(tmp_path, keep=3).check_room(adapter)


def test_a_step_that_is_owed_its_held_out_loss_is_kept_whole(tmp_path: Path) -> None:
    owed = Stepped(7, 1.5, 0.1, 1e-4, 0.5, 4, 40, 30, 10, 1 << 40)
    bank, adapter, optimizer = parts()
    state = State(7, None, "hash", owed)
    folder = Checkpoints(tmp_path, keep=1).save(state, adapter, optimizer, bank.model, ORIGIN)
    assert read_state(folder) == state


def test_the_state_of_another_version_is_refused(tmp_path: Path) -> None:
    save(tmp_path, 7)
    (tmp_path / "step-000007" / "state.json").write_text('{"step": 7, "first_held_out_loss": null, "mood": 1}')
    with pytest.raises(RunError, match="another version"):
        read_state(tmp_path / "step-000007")
