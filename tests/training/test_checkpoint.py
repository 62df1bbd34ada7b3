"""Checkpoints: kept, found, and passed over where they are broken."""

from pathlib import Path

import pytest
import torch

from graft.adapters import METHODS, Adapter, Bank, Provenance
from graft.config import LoraConfig, TrainConfig
from graft.errors import RunError
from graft.training import Checkpoints, State, build_optimizer, restore
from tests.families import build


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
        checkpoints.save(State(step, 1.5), adapter, optimizer, bank.model, Provenance("base", "auto", "print", {}, {}))
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
    (tmp_path / ".step-000060.x").mkdir()
    assert checkpoints.newest()[0] is None
    checkpoints.forget_after(0)
    assert not list(tmp_path.iterdir())
    save(tmp_path, 10, keep=2)
    assert checkpoints.newest() == (tmp_path / "step-000010", [])


def test_steps_are_ordered_as_numbers(tmp_path: Path) -> None:
    checkpoints = save(tmp_path, 999_999, 1_000_000, keep=1)
    assert checkpoints.newest()[0] == tmp_path / "step-1000000"
