"""SIGINT and SIGTERM in every phase: the step at hand and one save, and no half file."""

import json
from pathlib import Path
from typing import Any

import pytest

from graft.staging import manifest_fault
from tests.torture.conftest import Result, Zygote, leftovers, result_of

CODES = {"SIGINT": 130, "SIGTERM": 143}


NAMES = ["SIGTERM", pytest.param("SIGINT", marks=pytest.mark.slow)]


def steps_in(out: Path) -> int:
    return len((out / "metrics.jsonl").read_text().splitlines())


def sent(function: str, number: int = 1, *names: str) -> dict[str, Any]:
    """The signals, as the function of this name is entered."""
    return {"function": function, "number": number, "names": list(names or ("SIGTERM",))}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("phase", ["load_template", "read_samples", "load_base", "create_adapter", "build_optimizer"])
def test_before_training_it_leaves_at_once_and_nothing_is_written(
    phase: str, name: str, zygote: Zygote, tmp_path: Path
) -> None:
    code, words = zygote.live(zygote.train(tmp_path / "run"), signals=sent(phase, 1, name))
    assert code == CODES[name], words
    assert f"graft: stopped by {name}" in words
    assert "Traceback" not in words
    assert not list(tmp_path.iterdir())


PHASES = {
    "before the first step": (sent("Training._measure"), 0),
    "training": (sent("Gradient.of", 3), 3),
    "evaluating": (sent("Training._measure", 2), 5),
    "evaluating where a save is due as well": (sent("Training._measure", 3), 10),
    "evaluating, in its batch": (sent("forest_hidden_states", 8), 5),
    "evaluating for the last time": (sent("Training._measure", 4), 12),
    "copying for a save": (sent("Checkpoints.snapshot", 2), 4),
    "saving": (sent("Checkpoints._write", 2), None),
}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("phase", PHASES)
def test_it_leaves_within_one_step_and_one_save(
    phase: str, name: str, zygote: Zygote, whole: Result, tmp_path: Path
) -> None:
    signals, step = PHASES[phase]
    out = tmp_path / "run"
    code, words = zygote.live(zygote.train(out), signals=signals | {"names": [name]})
    assert code == CODES[name], words
    assert "Traceback" not in words
    assert not leftovers(out)
    if step is None:  # a save runs beside a step or two
        step = next(n for n in range(4, 8) if f"stopped by {name} after step {n}, which is saved" in words)
    if step:
        assert f"stopped by {name} after step {step}, which is saved" in words
        saved = out / "checkpoints" / f"step-{step:06d}"
        assert not manifest_fault(saved)
        owed = json.loads((saved / "state.json").read_text())["owed"]
        assert steps_in(out) == step - bool(owed)
        assert bool(owed) == phase.startswith("evaluating") or phase == "saving"
    code, words = zygote.live(zygote.train(out))
    assert code == 0, words
    assert f"going on after step {step}" in words if step else "begins anew" in words
    assert result_of(out) == whole


@pytest.mark.parametrize("phase", ["Gradient.of", "Training._measure", "Checkpoints._write"])
def test_a_second_signal_stops_at_once(phase: str, zygote: Zygote, whole: Result, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, words = zygote.live(zygote.train(out), signals=sent(phase, 3, "SIGINT", "SIGTERM"))
    assert code == CODES["SIGTERM"], words
    assert "Traceback" not in words
    assert steps_in(out) < 12
    code, words = zygote.live(zygote.train(out))
    assert code == 0, words
    assert "broken" not in words
    assert result_of(out) == whole


def test_the_result_is_handed_over_before_it_leaves(zygote: Zygote, whole: Result, tmp_path: Path) -> None:
    out = tmp_path / "run"
    code, words = zygote.live(zygote.train(out), signals=sent("Run.finish"))
    assert code == CODES["SIGTERM"], words
    assert result_of(out) == whole
    code, words = zygote.live(zygote.train(out))
    assert code == 0, words
    assert "finished: there is nothing to do" in words


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("phase", ["load_base", "interrogate", "save_base", "_read_again"])
def test_a_merge_leaves_nothing_behind(phase: str, name: str, zygote: Zygote, merged: Path, tmp_path: Path) -> None:
    command = ["merge", "--adapter", str(merged), "--out", str(tmp_path / "merged")]
    code, words = zygote.live(command, signals=sent(phase, 1, name))
    assert code == CODES[name], words
    assert "Traceback" not in words
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def merged(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run to merge."""
    out = tmp_path_factory.mktemp("merge") / "run"
    assert zygote.live(zygote.train(out, "train.max_steps=1"))[0] == 0
    return out
