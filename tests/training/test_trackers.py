"""Trackers: what each is told, and what stands where it keeps it. Those that are installed are run for real."""

import json
import sqlite3
import sys
from collections.abc import Mapping
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import pytest

from graft.errors import ConfigError
from graft.training import TRACKERS, Ended, Evaluated, Saved, Started, TrackedRun, Warned, check_trackers
from graft.training.trackers import Tracker
from tests.training.test_events import stepped

EVERY = [
    pytest.param(name, marks=[] if find_spec(name) else [pytest.mark.skip(f"{name} is not installed")])
    for name in TRACKERS
]


class Notebook(Tracker):
    """Keeps what it is told, and greets as libraries do."""

    def begin(self, done: int) -> None:
        print("Welcome!")
        self.said: list[object] = [f"after {done}"]

    def log(self, step: int, figures: Mapping[str, float]) -> None:
        self.said.append((step, dict(figures)))

    def warn(self, step: int, number: int, what: str) -> None:
        self.said.append((step, number, what))

    def end(self, step: int, final: Mapping[str, float], why: str, *, whole: bool) -> None:
        self.said.append((step, dict(final), why, whole))


def a_run(folder: Path) -> TrackedRun:
    return TrackedRun("first", "0123456789abcdef", folder, {"train.seed": 42, "lora.modules_to_save": ["lm_head"]})


def tell(tracker: Tracker, folder: Path, *, done: int = 0) -> None:
    tracker(Started(done, done + 2, 3.0))
    tracker(stepped(done + 1))
    tracker(Warned(done + 1, "odd", ["rows.json:1"]))
    tracker(Warned(done + 1, "very odd"))
    tracker(Saved(done + 1, folder))
    tracker(stepped(done + 2, held_out_loss=2.5))
    tracker(Evaluated(done + 2, {"loss": 2.5, "rouge_l": 0.5}))
    tracker(Ended(done + 2, "all steps are done", True, {"loss": 2.5}))


def test_events_become_figures_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notebook = Notebook(a_run(tmp_path))
    tell(notebook, tmp_path, done=4)
    begun, first, *warnings, second, measured, end = notebook.said
    assert begun == "after 4"
    assert isinstance(first, tuple)
    assert first[0] == 5
    assert first[1]["train/loss"] == 0.5
    assert set(first[1]) == {f"train/{name}" for name in (
        "loss", "lr", "grad_norm", "samples", "tokens_executed", "tokens_trained", "peak_memory_bytes"
    )}  # fmt: skip
    assert warnings == [(5, 1, "step 5: odd: rows.json:1"), (5, 2, "step 5: very odd")]
    assert isinstance(second, tuple)
    assert second[0] == 6
    assert measured == (6, {"held_out/loss": 2.5, "held_out/rouge_l": 0.5})
    assert end == (6, {"final/loss": 2.5}, "all steps are done", True)
    assert capsys.readouterr() == ("", "Welcome!\n"), "standard output carries results alone"


def test_a_run_broken_off_before_it_was_begun_has_no_record_to_close(tmp_path: Path) -> None:
    notebook = Notebook(a_run(tmp_path))
    notebook(Ended(0, "stopped by SIGINT", False))
    assert not hasattr(notebook, "said")


def test_what_is_not_installed_is_named_with_the_way_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    check_trackers([])
    monkeypatch.setattr("graft.training.trackers.find_spec", lambda name: sys if name == "mlflow" else None)
    check_trackers(["mlflow"])
    with pytest.raises(ConfigError, match=r"report\.to names trackio, which is not installed") as caught:
        check_trackers(["mlflow", "trackio"])
    assert caught.value.fix.startswith("pip install 'graft-llm[trackio]'")


@pytest.mark.slow
@pytest.mark.parametrize("name", EVERY)
def test_every_tracker_that_is_installed_takes_a_run_and_the_run_resumed(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tell(TRACKERS[name](a_run(tmp_path)), tmp_path)
    cut = TRACKERS[name](a_run(tmp_path))
    for event in (Started(2, 4, None), stepped(3)):  # killed behind a step that no checkpoint has, which is done again
        cut(event)
    tell(TRACKERS[name](a_run(tmp_path)), tmp_path, done=2)
    if name == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        kept = EventAccumulator(str(tmp_path / "tensorboard"))
        kept.Reload()
        assert [(e.step, round(e.value, 4)) for e in kept.Scalars("train/loss")] == [
            (1, 0.1), (2, 0.2), (3, 0.3), (4, 0.4),
        ]  # fmt: skip
        assert [e.value for e in kept.Scalars("held_out/rouge_l")] == [0.5, 0.5]
        tell(TRACKERS[name](a_run(tmp_path)), tmp_path)  # anew, as there was no checkpoint yet
        kept.Reload()
        assert [e.step for e in kept.Scalars("train/loss")] == [1, 2]
    if name == "mlflow":
        from mlflow import MlflowClient

        client = MlflowClient(f"sqlite:///{tmp_path / 'mlflow.db'}")
        (run,) = client.search_runs([client.get_experiment_by_name("graft").experiment_id])
        assert run.data.params == {"train.seed": "42", "lora.modules_to_save": "['lm_head']"}
        assert run.data.metrics["final/loss"] == 2.5
        assert [m.step for m in client.get_metric_history(run.info.run_id, "train/loss")] == [1, 2, 3, 4]
        assert run.info.status == "FINISHED"
        warned = {name: said for name, said in run.data.tags.items() if name.startswith("graft.warning.3.")}
        assert warned == {
            "graft.warning.3.1": "step 3: odd: rows.json:1",
            "graft.warning.3.2": "step 3: very odd",
        }
    if name == "wandb":
        assert list((tmp_path / "wandb").glob("offline-run-*-0123456789abcdef"))
    if name == "trackio":
        (database,) = (tmp_path / "trackio").glob("*.db")
        with closing(sqlite3.connect(database)) as kept_in:
            rows = kept_in.execute("SELECT step, metrics FROM metrics ORDER BY step, id").fetchall()
        told = [(step, json.loads(said)) for step, said in rows]
        assert [step for step, said in told if "train/loss" in said] == [1, 2, 3, 4]
        assert [said["warning"] for step, said in told if "warning" in said] == [
            "step 1: odd: rows.json:1", "step 1: very odd",
        ]  # fmt: skip
        assert [(step, said["held_out/rouge_l"]) for step, said in told if "held_out/rouge_l" in said] == [
            (2, 0.5), (4, 0.5),
        ]  # fmt: skip
