"""`graft bench` as users run it."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from graft.bench.contest import Contest
from graft.bench.peers import INSTALL
from graft.seedling import demo_train_path
from tests.commands.conftest import Graft

SMALL = ("--data", demo_train_path(), "--rounds", "1", "--set", "train.global_batch=2", "--json")


def peers_here(*modules: str) -> None:
    for module in modules:
        pytest.importorskip(module)


@pytest.mark.slow
def test_graft_beside_the_trainer_of_transformers(graft: Graft, tmp_path: Path) -> None:
    peers_here("peft", "accelerate")
    out = tmp_path / "bench"
    ran = graft("bench", *SMALL, "--rows", 6, "--peers", "trainer-fp32", "--out", out)
    assert ran.code == 0, ran.err
    assert sorted(path.name for path in out.iterdir()) == ["bench.json", "bench.svg"]
    assert json.loads((out / "bench.json").read_text()) == ran.json
    assert set(ran.json["contenders"]) == {"graft-fp32", "trainer-fp32"}
    assert set(ran.json["limits"]) == {"float32"}
    for figures in ran.json["contenders"].values():
        assert len(figures["losses"]) == 3
        assert figures["samples_per_s"] > 0
        assert figures["peak_memory_bytes"] >= figures["loaded_memory_bytes"] > 0
        assert figures["limit_share"] > 0
    ours, theirs = ran.json["contenders"]["graft-fp32"], ran.json["contenders"]["trainer-fp32"]
    assert theirs["losses"] == pytest.approx(ours["losses"], rel=1e-4)
    assert theirs["loss_difference"] < 1e-3
    assert ran.json["speed_ups"] == {"trainer-fp32": ours["samples_per_s"] / theirs["samples_per_s"]}
    assert not ran.json["failed"]
    assert not ran.json["missing"]


@pytest.mark.slow
def test_a_peer_that_fails_is_named_and_the_others_go_on(
    graft: Graft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    peers_here("peft", "accelerate", "datasets")
    (tmp_path / "trl.py").write_text("raise RuntimeError('this trl is\\nbroken')\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), os.environ.get("PYTHONPATH", "")]))
    out = tmp_path / "bench"
    ran = graft("bench", *SMALL, "--rows", 4, "--peers", "sft-bf16,trainer-bf16", "--out", out)
    assert ran.code == 0, ran.err
    assert ran.json["failed"] == {"sft-bf16": "RuntimeError: this trl is broken"}
    assert set(ran.json["contenders"]) == {"graft-bf16", "trainer-bf16"}


@pytest.mark.slow
def test_when_graft_itself_fails_nothing_is_written(graft: Graft, tmp_path: Path) -> None:
    out = tmp_path / "bench"
    ran = graft(
        "bench", *SMALL, "--rows", 6, "--peers", "trainer-fp32", "--out", out, "--set", "train.learning_rate=1e30"
    )
    assert ran.code == 2
    assert "graft-fp32: step" in ran.err
    assert not out.exists()


def test_a_peer_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "trl", None)
    said: list[str] = []
    contest = Contest(*[None] * 6, said.append)  # type: ignore[arg-type]
    missing = contest.enter(["sft-bf16"])
    assert missing.keys() == {"sft-bf16"}
    assert INSTALL in missing["sft-bf16"]
    assert said == [f"sft-bf16: {missing['sft-bf16']}"]
    assert contest.entered == ["graft-bf16"]


ENCODED = [{"ids": [1, 2, 3], "trained": [0, 0, 1]}] * 3


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("--peers", "trainer-fp64"), "no peer is called `trainer-fp64`\n  -> did you mean `trainer-fp32`?"),
        (("--rows", "2"), "--rows 2: the first 2 (train.global_batch) only warm up"),
        (("--set", "lora.lora_dropout=0.1"), "lora_dropout"),
        (("--set", "model.dtype=float32"), "`graft bench` does not read model.dtype"),
        (("--set", "train.epochs=2"), "`graft bench` does not read train.epochs"),
        (("--set", "lora.r=100000"), "lora.r 100000 is above the rank"),
        (("--set", "train.max_tokens=9"), "train.max_tokens"),
        (("--model", "nowhere/at/all"), "nowhere/at/all"),
        (("--data", "nowhere.json"), "nowhere.json does not exist"),
    ],
)
def test_bad_settings(arguments: tuple[str, ...], expected: str, graft: Graft, tmp_path: Path) -> None:
    ran = graft("bench", *SMALL, "--out", tmp_path / "out", *arguments)
    assert ran.code == 2
    assert expected in ran.err
    assert "->" in ran.err
    assert "Traceback" not in ran.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        (ENCODED[:2], "gives 2 rows, and the first 2 only warm up"),
        ([*ENCODED, {"ids": [1, 99999], "trained": [0, 1]}], "rows.jsonl:4: the id 99999"),
        ([*ENCODED, {"ids": [1, 2], "trained": [0]}], "rows.jsonl:4: 2 ids, 1 marks"),
    ],
)
def test_bad_encoded_rows(rows: list[dict[str, Any]], expected: str, graft: Graft, tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    ran = graft("bench", *SMALL, "--data", path, "--out", tmp_path / "out")
    assert ran.code == 2
    assert expected in ran.err
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_left_alone(graft: Graft, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("")
    ran = graft("bench", *SMALL, "--out", tmp_path)
    assert ran.code == 2
    assert "is in use" in ran.err
