"""The best step is handed over, and a run stops when nothing is gained; bad numbers, as a user meets them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch

from graft.errors import RunError
from graft.training import TRACKERS, Ended, read_metrics
from graft.training.trackers import Tracker
from tests.commands.conftest import Graft
from tests.commands.test_resume import WEIGHTS, command, few

__all__ = ["few"]

WORSE = ("train.learning_rate=0.02", "train.warmup_steps=1", "train.schedule=constant", "train.eval_every=1",
         "train.max_steps=7", "checkpoint.keep=1", "checkpoint.every=3")  # fmt: skip
"""At a rate that is too high the held-out loss falls, if at all, for a step or two."""


def best_of(out: Path, figure: str = "held_out_loss") -> int:
    lines = [line for line in read_metrics(out / "metrics.jsonl") if figure in line]
    return int(min(lines, key=lambda line: line[figure])["step"])


@pytest.fixture(scope="module")
def worse(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose last step is not its best. Do not write into it."""
    import graft
    from tests.commands.test_resume import settings_of

    out = tmp_path_factory.mktemp("worse") / "run"
    graft.train({**settings_of(few), **dict(setting.split("=") for setting in WORSE)}, out=out)
    return out


def test_the_adapter_of_the_best_step_is_handed_over_and_said_to_be(
    graft: Graft, few: Path, worse: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    ran = graft(*command(few, out, *WORSE), "--json")
    assert ran.code == 0, ran.err
    best = best_of(out)
    assert best < 7
    assert ran.json["best_step"] == best
    assert ran.json["best_eval_loss"] == read_metrics(out / "metrics.jsonl")[best - 1]["held_out_loss"]
    assert ran.json["best_eval_loss"] < ran.json["last_eval_loss"]
    assert f"the adapter of step {best} is handed over: the lowest held-out loss" in ran.err
    kept = out / "checkpoints" / f"step-{best:06d}" / "adapter_model.safetensors"
    assert (out / WEIGHTS).read_bytes() == kept.read_bytes()
    card = (out / "adapter" / "README.md").read_text(encoding="utf-8")
    assert f"It is that of step {best} of 7: the lowest held-out loss." in card
    assert f"{ran.json['best_eval_loss']:.4f} after training" in card
    assert f"{best} of 7" in (out / "report.html").read_text(encoding="utf-8")
    assert (out / WEIGHTS).read_bytes() == (worse / WEIGHTS).read_bytes()
    again = graft(*command(few, out, *WORSE), "--json")
    assert again.json | {"seconds": 0} == ran.json | {"seconds": 0}


def test_the_last_can_be_asked_for(graft: Graft, few: Path, worse: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ran = graft(*command(few, out, *WORSE, "best.by=last"), "--json")
    assert ran.json["best_step"] == 7
    assert "handed over" not in ran.err
    assert (out / WEIGHTS).read_bytes() != (worse / WEIGHTS).read_bytes()


def broken_off(run: Path, out: Path, *, after: int) -> Path:
    """A copy of the run as if it had been killed behind the checkpoint after this step."""
    shutil.copytree(run, out)
    shutil.rmtree(out / "adapter")
    (out / "report.html").unlink()
    for folder in (out / "checkpoints").iterdir():
        if int(folder.name.removeprefix("step-")) > after:
            shutil.rmtree(folder)
    return out


def test_a_resumed_run_knows_its_best(graft: Graft, few: Path, worse: Path, tmp_path: Path) -> None:
    out = broken_off(worse, tmp_path / "run", after=6)
    ran = graft(*command(few, out, *WORSE))
    assert ran.code == 0, ran.err
    assert "going on after step 6" in ran.err
    assert (out / WEIGHTS).read_bytes() == (worse / WEIGHTS).read_bytes()


def test_a_best_that_is_lost_is_said_and_another_is_chosen(
    graft: Graft, few: Path, worse: Path, tmp_path: Path
) -> None:
    out = broken_off(worse, tmp_path / "run", after=6)
    best = best_of(out)
    (out / "checkpoints" / f"step-{best:06d}" / "state.json").write_text("{}")
    ran = graft(*command(few, out, *WORSE))
    assert ran.code == 0, ran.err
    assert f"step {best} was the best, and its checkpoint is lost, so that another is chosen" in ran.err
    assert (out / WEIGHTS).read_bytes() != (worse / WEIGHTS).read_bytes()
    again = graft(*command(few, out, *WORSE), "--json")
    assert "finished: there is nothing to do" in again.err
    assert again.json["best_step"] != best, "it is the other that was handed over"


def test_a_run_whose_patience_ends_with_its_last_step_was_not_stopped(graft: Graft, few: Path, tmp_path: Path) -> None:
    out, patient = tmp_path / "run", (*WORSE, "best.patience=2")
    stopped = graft(*command(few, out, *patient, "train.max_steps=20"), "--json").json["steps"]
    exactly = (*patient, f"train.max_steps={stopped}")
    ran = graft(*command(few, tmp_path / "exactly", *exactly), "--json")
    assert ran.json["steps"] == stopped
    assert ran.json["stopped"] == ""
    assert "stopped early" not in ran.err
    again = graft(*command(few, tmp_path / "exactly", *exactly), "--json")
    assert "finished: there is nothing to do" in again.err
    assert again.json | {"seconds": 0} == ran.json | {"seconds": 0}


def test_a_result_that_is_broken_is_said_and_made_again(graft: Graft, few: Path, worse: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(worse, tmp_path / "run"))
    (out / "result.json").write_text('{"steps": 7}')
    ran = graft(*command(few, out, *WORSE))
    assert ran.code == 2
    assert f"{out / 'result.json'} is not what Graft writes" in ran.err
    (out / "result.json").unlink()
    assert graft(*command(few, out, *WORSE)).code == 0
    assert (out / "result.json").read_bytes() == (worse / "result.json").read_bytes()


def test_a_best_that_is_lost_in_the_last_moment_is_said_with_the_way_out(
    graft: Graft, few: Path, worse: Path, tmp_path: Path
) -> None:
    from graft.commands.train import train
    from graft.config import build_config, parse_settings

    out = broken_off(worse, tmp_path / "run", after=6)
    best = best_of(out)

    def lose(event: object) -> None:
        if isinstance(event, Ended):
            (out / "checkpoints" / f"step-{best:06d}" / "state.json").write_text("{}")

    settings = command(few, out, *WORSE)[6::2]
    with pytest.raises(RunError, match=f"step {best} was the best, and its adapter is lost: .*") as caught:
        train(build_config({"data.path": str(few)}, parse_settings(settings)), out, subscribers=[lose])
    assert caught.value.fix == "give the same command again: another step is chosen"
    ran = graft(*command(few, out, *WORSE), "--json")
    assert ran.code == 0, ran.err
    assert ran.json["best_step"] != best


def test_a_run_stops_when_nothing_is_gained_and_is_finished(graft: Graft, few: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    patient = (*WORSE, "best.patience=2", "train.max_steps=20")
    ran = graft(*command(few, out, *patient), "--json")
    assert ran.code == 0, ran.err
    best = best_of(out)
    steps = len(read_metrics(out / "metrics.jsonl"))
    assert steps < 20
    assert ran.json["stopped"] == f"2 measurements in a row gave no gain in held-out loss; step {best} is the best"
    assert f"stopped early, after step {steps}: 2 measurements in a row gave no gain" in ran.err
    assert (ran.json["best_step"], ran.json["steps"]) == (best, steps)
    again = graft(*command(few, out, *patient), "--json")
    assert "finished: there is nothing to do" in again.err
    assert f"it stopped after step {steps}: 2 measurements in a row" in again.err
    assert again.json | {"seconds": 0} == ran.json | {"seconds": 0}
    adapter = (out / WEIGHTS).read_bytes()
    broken = broken_off(out, tmp_path / "broken", after=steps)
    ran = graft(*command(few, broken, *patient))
    assert ran.code == 0, ran.err
    assert len(read_metrics(broken / "metrics.jsonl")) == steps, "it stops where it did"
    assert (broken / WEIGHTS).read_bytes() == adapter


def test_a_run_that_stopped_early_goes_on_with_more_patience(graft: Graft, few: Path, tmp_path: Path) -> None:
    out, whole = tmp_path / "run", tmp_path / "whole"
    patient = (*WORSE, "train.max_steps=6")
    assert graft(*command(few, out, *patient, "best.patience=1")).code == 0
    assert len(read_metrics(out / "metrics.jsonl")) < 6
    ran = graft(*command(few, out, *patient, "best.patience=9"), "--allow", "best.patience", "--json")
    assert ran.code == 0, ran.err
    assert (ran.json["steps"], ran.json["stopped"]) == (6, "")
    assert graft(*command(few, whole, *patient, "best.patience=9")).code == 0
    assert (out / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


def test_a_finished_run_hands_over_another_step_where_it_is_asked_to(
    graft: Graft, few: Path, worse: Path, tmp_path: Path
) -> None:
    out, last = Path(shutil.copytree(worse, tmp_path / "run")), tmp_path / "last"
    ran = graft(*command(few, out, *WORSE, "best.by=last"), "--allow", "best.by", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["best_step"] == 7
    assert graft(*command(few, last, *WORSE, "best.by=last")).code == 0
    assert (out / WEIGHTS).read_bytes() == (last / WEIGHTS).read_bytes()


def test_answers_can_choose(graft: Graft, few: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ran = graft(*command(few, out, "best.by=rouge_l", "train.eval_every=2", "train.max_steps=4"), "--json")
    assert ran.code == 0, ran.err
    lines = [line for line in read_metrics(out / "metrics.jsonl") if "held_out_loss" in line]
    assert [line["step"] for line in lines] == [2, 4]
    assert all(set(line["held_out"]) == {"exact_match", "rouge_l"} for line in lines)
    best = max(lines, key=lambda line: (line["held_out"]["rouge_l"], -line["step"]))
    assert ran.json["best_step"] == best["step"]


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["best.patience=2", "data.held_out=0"], "goes by held-out rows, and none is held out"),
        (["best.by=rouge_l", "data.held_out=0"], "goes by held-out rows, and none is held out"),
        (["best.by=last", "best.patience=2"], "patience and min_gain need a figure to go by"),
        (["best.min_gain=0.1"], "min_gain is read with a patience above 0"),
        (["best.by=bleu"], "best.by"),
        (["bad_numbers.action=skip"], "action skip needs a budget above 0"),
        (["bad_numbers.budget=3"], "action stop reads no budget"),
        (["best.patience=2", "train.eval_every=0"], "with train.eval_every 0 there is one, after the last step"),
        (
            ["bad_numbers.action=roll_back", "bad_numbers.budget=1", "checkpoint.every=0"],
            "with checkpoint.every 0 none is",
        ),
        (["report.to=[excel]"], "report.to"),
    ],
)
def test_what_contradicts_itself_is_refused(
    settings: list[str], words: str, graft: Graft, few: Path, tmp_path: Path
) -> None:
    ran = graft(*command(few, tmp_path / "run", *settings))
    assert ran.code == 2
    assert words in ran.err
    assert "Traceback" not in ran.err
    assert not list(tmp_path.iterdir())


def test_what_is_rolled_back_to_may_not_change(graft: Graft, few: Path, worse: Path, tmp_path: Path) -> None:
    rolling = ("bad_numbers.action=roll_back", "bad_numbers.budget=2")
    ran = graft(*command(few, tmp_path / "run", *WORSE, *rolling), "--allow", "checkpoint.every")
    assert ran.code == 2
    assert "with bad_numbers.action roll_back it decides what is rolled back to" in ran.err


def test_a_tracker_that_is_not_installed_is_said_before_anything_is_written(
    graft: Graft, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graft.training.trackers.find_spec", lambda name: None)
    ran = graft(*command(few, tmp_path / "run", "report.to=[wandb,mlflow]"))
    assert ran.code == 2
    assert "report.to names wandb, mlflow, which is not installed" in ran.err
    assert "pip install 'graft-llm[wandb,mlflow]'" in ran.err
    assert not list(tmp_path.iterdir())


def test_a_subscriber_that_fails_does_not_hurt_the_run(few: Path, tmp_path: Path) -> None:
    from graft.commands.train import train
    from graft.config import build_config
    from tests.commands.test_resume import settings_of

    said: list[str] = []

    class Broken:
        told = 0

        def __call__(self, event: object) -> None:
            self.told += 1
            if self.told == 3:
                raise ValueError("no connection")

    broken = Broken()
    config = build_config(settings_of(few), {"train.max_steps": 3})
    result = train(config, tmp_path / "run", subscribers=[broken], say=said.append)
    assert result.steps == 3
    assert broken.told == 3
    fails = [line for line in said if "fails" in line]
    assert fails == ["Broken fails and is told no more of the run, which goes on: ValueError: no connection"]
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])["step"] == 3


def test_nobody_has_to_read_what_is_said(few: Path, tmp_path: Path) -> None:
    """As in `graft train ... 2>&1 >result | head -1`."""
    start = "from graft.cli import main; main()"
    arguments = command(few, tmp_path / "run")
    with subprocess.Popen(
        [sys.executable, "-c", start, *arguments, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout
        assert process.stderr
        process.stderr.readline()
        process.stderr.close()
        result = json.loads(process.stdout.read())
    assert process.returncode == 0
    assert result["steps"] == 6


def test_memory_that_nothing_can_be_done_about_is_said(
    graft: Graft, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*parts: object, **named: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nA hint.")

    monkeypatch.setattr(torch.optim.AdamW, "step", full)
    ran = graft(*command(few, tmp_path / "run"))
    assert ran.code == 2
    assert "graft: memory does not do: CUDA out of memory. Tried to allocate 2.00 GiB.\n  -> " in ran.err
    assert "Traceback" not in ran.err


def test_a_tracker_knows_a_run_that_goes_on_and_takes_no_other_for_it(
    graft: Graft, few: Path, worse: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    known: list[str] = []

    class Keeps(Tracker):
        def begin(self, done: int) -> None:
            known.append(self.run.identity)

        def log(self, step: int, figures: Mapping[str, float]) -> None: ...

        def warn(self, step: int, what: str) -> None: ...

        def end(self, step: int, final: Mapping[str, float], why: str, *, whole: bool) -> None: ...

    monkeypatch.setitem(TRACKERS, "tensorboard", Keeps)  # type: ignore[arg-type]
    monkeypatch.setattr("graft.training.trackers.find_spec", lambda name: sys)
    out, told = tmp_path / "run", (*WORSE, "report.to=tensorboard")
    assert graft(*command(few, out, *told)).code == 0
    whole = out.rename(tmp_path / "whole")
    broken_off(whole, out, after=6)
    assert graft(*command(few, out, *told)).code == 0
    shutil.rmtree(out)
    assert graft(*command(few, out, *told)).code == 0
    first, resumed, another = known
    assert first == resumed
    assert first != another
