"""Files that are cut or have a bit turned: every one is detected, wherever it is."""

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from graft.adapters import CARD_FILE, METHODS, Adapter, Bank, Provenance, load_adapter, save_adapter
from graft.config import LoraConfig, TrainConfig
from graft.errors import AdapterError
from graft.staging import MANIFEST, manifest_fault, write_manifest
from graft.training import (
    Checkpoints,
    MetricsFile,
    State,
    Stepped,
    build_optimizer,
    lines_fault,
    read_metrics,
)
from tests.families import build
from tests.torture.conftest import Result, Zygote, result_of

FEW, MANY = 100, 3_000
ORIGIN = Provenance("base", "auto", "print", {"prompt_input": "x"}, {})

Damage = Callable[[bytes, random.Random], bytes]


def cut(content: bytes, draw: random.Random) -> bytes:
    """Every other time near the end, where least is missing."""
    length = len(content)
    return content[: draw.choice([draw.randrange(length), length - draw.randint(1, min(9, length))])]


def turned(content: bytes, draw: random.Random) -> bytes:
    """Every other time near the beginning, where headers are."""
    length = len(content)
    place = draw.choice([draw.randrange(length), draw.randrange(min(64, length))])
    return content[:place] + bytes([content[place] ^ (1 << draw.randrange(8))]) + content[place + 1 :]


def damaged(folder: Path, damage: Damage, count: int) -> Iterator[tuple[Path, str]]:
    """Damage one file of `folder` after the other, each as often; it is whole again afterwards."""
    draw = random.Random(count)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for number in range(count):
        path = files[number % len(files)]
        content = path.read_bytes()
        path.write_bytes(damage(content, draw))
        yield path, f"{damage.__name__} {path.name}, number {number}"
        path.write_bytes(content)


@pytest.fixture(scope="module")
def bank() -> Bank:
    return Bank(build("llama-gqa", dtype=torch.float32))


def adapter_of(bank: Bank) -> Adapter:
    return METHODS["lora"].create(bank.model, LoraConfig(r=2, target_modules=["q_proj"]), seed=1)


HOW_MANY = [pytest.param(FEW, id="few"), pytest.param(MANY, id="many", marks=pytest.mark.slow)]


@pytest.mark.parametrize("count", HOW_MANY)
@pytest.mark.parametrize("damage", [cut, turned])
def test_a_damaged_checkpoint_is_passed_over(damage: Damage, count: int, bank: Bank, tmp_path: Path) -> None:
    adapter = adapter_of(bank)
    optimizer = build_optimizer(list(adapter.named_parameters()), TrainConfig())
    for _, parameter in adapter.named_parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2):
        checkpoints.save(State(step, 1.5), adapter, optimizer, bank.model, ORIGIN)
    for _, case in damaged(tmp_path / "step-000002", damage, count):
        newest, faults = checkpoints.newest()
        assert newest == tmp_path / "step-000001", case
        assert len(faults) == 1, case
        assert "step-000002" in faults[0], case
    assert checkpoints.newest() == (tmp_path / "step-000002", [])


def is_of_the_card(path: Path, manifest: dict[str, str]) -> bool:
    """Whether the manifest at `path` says what it said of all but the card."""
    try:
        said = json.loads(path.read_bytes()) if path.name == MANIFEST else {}
    except ValueError:
        return False
    return said != manifest and {**said, CARD_FILE: manifest[CARD_FILE]} == manifest


@pytest.mark.parametrize("count", HOW_MANY)
@pytest.mark.parametrize("damage", [cut, turned])
def test_a_damaged_adapter_is_refused(damage: Damage, count: int, bank: Bank, tmp_path: Path) -> None:
    save_adapter(tmp_path, adapter_of(bank), bank.model, ORIGIN)
    (tmp_path / CARD_FILE).write_text("# What it is\n")
    write_manifest(tmp_path)
    manifest, refused = json.loads((tmp_path / MANIFEST).read_bytes()), 0
    for path, case in damaged(tmp_path, damage, count):
        assert manifest_fault(tmp_path), case
        if path.name == CARD_FILE or is_of_the_card(path, manifest):  # which people edit, and nothing reads
            load_adapter(tmp_path, bank.model)
        else:
            refused += 1
            with pytest.raises(AdapterError, match="the adapter is broken: "):
                load_adapter(tmp_path, bank.model)
    assert refused > 0.7 * count
    load_adapter(tmp_path, bank.model)


@pytest.mark.parametrize("count", HOW_MANY)
@pytest.mark.parametrize("damage", [cut, turned])
def test_damaged_lines_of_steps_are_noticed(damage: Damage, count: int, tmp_path: Path) -> None:
    """They say which step was the best, and much else, to a run that goes on."""
    lines = tmp_path / "metrics.jsonl"
    file = MetricsFile(lines)
    for step in range(1, 6):
        file(Stepped(step, 1.7e9, 2.5, 1e-05, 0.3, 8, 100, 80, 40, 1 << 30, held_out_loss=1 / step))
    whole, digest = read_metrics(lines), file.digest()
    assert not lines_fault(lines, 5, digest)
    noticed = 0
    for _, case in damaged(tmp_path, damage, count):
        if lines_fault(lines, 5, digest):
            noticed += 1
        else:
            assert read_metrics(lines) == whole, case  # 1e-05 became 1E-05
    assert noticed > 0.95 * count


@pytest.mark.parametrize("damage", [cut, turned])
def test_a_run_falls_back_by_one_and_says_so(damage: Damage, zygote: Zygote, whole: Result, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert zygote.live(zygote.train(out))[0] == 0
    shutil.rmtree(out / "adapter")
    for number, (_, case) in enumerate(damaged(out / "checkpoints" / "step-000012", damage, 2)):
        broken = shutil.copytree(out, tmp_path / str(number))
        code, words = zygote.live(zygote.train(broken))
        assert code == 0, f"{case}\n{words}"
        assert "a broken checkpoint is passed over: " in words, case
        assert f"{broken.name}/checkpoints/step-000012/" in words, case
        assert "going on after step 10" in words, case
        assert result_of(broken) == whole, case


def test_a_damaged_result_is_made_again(zygote: Zygote, whole: Result, tmp_path: Path) -> None:
    out = tmp_path / "run"
    assert zygote.live(zygote.train(out))[0] == 0
    weights = out / "adapter" / "adapter_model.safetensors"
    weights.write_bytes(turned(weights.read_bytes(), random.Random(1)))
    code, words = zygote.live(["chat", "--adapter", str(out), "--prompt", "Say hello.", "--max-new-tokens", "2"])
    assert code == 2
    assert "adapter_model.safetensors is not the file that was written" in words
    code, words = zygote.live(zygote.train(out))
    assert code == 0, words
    assert "going on after step 12" in words
    assert result_of(out) == whole
