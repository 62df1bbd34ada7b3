"""Graft and its peers in this process: the same losses and gradients, whatever they run on."""

import sys
from pathlib import Path

import pytest

from graft.adapters import METHODS, Provenance, save_adapter
from graft.bench.figures import largest_difference
from graft.bench.peers import OURS, PEERS, lacking, run_peer
from graft.bench.rows import write_encoded
from graft.bench.turn import Ran, Task
from graft.commands.contender import run_graft
from graft.config import LoraConfig, build_config
from graft.errors import ProofError
from graft.model import load_base
from graft.records import TokenSequence
from graft.seedling import seedling_path

BATCH = 3
LENGTHS = (30, 41, 52, 40, 31, 38, 36)
SAMPLES = [
    TokenSequence((1, *range(10, 29), *range(100 + length, 80 + 2 * length)), (False,) * 24 + (True,) * (length - 24))
    for length in LENGTHS
]


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Task:
    folder = tmp_path_factory.mktemp("task")
    model = load_base(str(seedling_path())).model
    adapter = METHODS["lora"].create(model, LoraConfig(), seed=0)
    (folder / "adapter").mkdir()
    save_adapter(folder / "adapter", adapter, model, Provenance("seedling", "float32", "", {}, {}))
    write_encoded(folder / "rows.jsonl", SAMPLES)
    settings = {
        "model": {"path": str(seedling_path()), "dtype": "float32"},
        "train": {"global_batch": BATCH, "schedule": "constant", "warmup_steps": 0, "epochs": 1, "learning_rate": 5e-3},
    }
    return Task("graft-fp32", build_config(settings), str(folder / "rows.jsonl"), str(folder / "adapter"))


@pytest.fixture(scope="module")
def ours(task: Task) -> Ran:
    return run_graft(task)


def test_graft_takes_its_own_time_and_memory(ours: Ran) -> None:
    assert [lap.tokens_executed for lap in ours.laps] == [123 - 40, 109 - 40, 36], "the first 20 are shared"
    assert all(lap.seconds > 0 for lap in ours.laps)
    assert 0 < ours.loaded_memory_bytes <= ours.peak_memory_bytes


def test_the_trainer_of_transformers_has_the_same_losses_and_gradients(task: Task, ours: Ran, tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    ran = run_peer(Task("trainer-fp32", task.config, task.rows, task.adapter), tmp_path)
    assert largest_difference("trainer-fp32", ran.laps, "graft-fp32", ours.laps, "float32") < 1e-4
    assert [lap.grad_norm for lap in ran.laps] == pytest.approx([lap.grad_norm for lap in ours.laps], rel=1e-3)
    assert [lap.tokens_executed for lap in ran.laps] == [3 * 52, 3 * 40, 36], "padding is executed"
    assert not list(tmp_path.rglob("*.bin")) + list(tmp_path.rglob("*.pt")), "nothing is pickled"


def test_losses_of_another_training_do_not_agree(task: Task, ours: Ran, tmp_path: Path) -> None:
    changed = [TokenSequence(s.ids, (*s.trained[:-1], False)) for s in SAMPLES]  # the last token is not trained
    write_encoded(tmp_path / "rows.jsonl", changed)
    other = run_graft(Task("graft-fp32", task.config, str(tmp_path / "rows.jsonl"), task.adapter))
    with pytest.raises(ProofError, match="not shown that they train the same"):
        largest_difference("other", other.laps, "graft-fp32", ours.laps, "float32")


def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    assert lacking(PEERS["sft-bf16"])[:1] == ["trl"]
    assert "trl" not in lacking(PEERS["trainer-fp32"])


def test_every_peer_is_held_against_graft() -> None:
    assert {peer.beside for peer in PEERS.values()} == set(OURS)
