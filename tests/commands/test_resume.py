"""The same command again: it goes on to the same bits, or says what is not the same."""

import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import graft as api
from graft.commands import train as train_command
from graft.config import build_config, dump_config, read_config
from graft.errors import GraftError
from graft.lock import locked
from graft.training import read_metrics
from tests.commands.conftest import Graft

WEIGHTS = Path("adapter") / "adapter_model.safetensors"
SETTINGS = ("data.cutoff=256", "data.held_out=4", "train.learning_rate=4e-3", "train.max_steps=6", "lora.r=2",
            "train.global_batch=4", "checkpoint.every=2")  # fmt: skip


def command(rows: Path, out: Path, *more: str) -> list[str]:
    sets = [part for setting in (*SETTINGS, *more) for part in ("--set", setting)]
    return ["train", "--data", str(rows), "--out", str(out), *sets]


@pytest.fixture(scope="module")
def few(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("few") / "rows.jsonl"
    path.write_text("".join(rows.read_text(encoding="utf-8").splitlines(keepends=True)[:40]), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def finished(few: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that came to its end. Do not write into it."""
    out = tmp_path_factory.mktemp("finished") / "run"
    api.train(settings_of(few), out=out)
    return out


def settings_of(data: Path) -> dict[str, Any]:
    return {"data.path": str(data), **dict(setting.split("=") for setting in SETTINGS)}


def broken_off(finished: Path, out: Path) -> Path:
    """A copy of the run as if it had been killed after step 4."""
    shutil.copytree(finished, out)
    shutil.rmtree(out / "adapter")
    shutil.rmtree(out / "checkpoints" / "step-000006")
    for name in ("report.html", "result.json"):
        (out / name).unlink()
    lines = (out / "metrics.jsonl").read_text().splitlines(keepends=True)
    (out / "metrics.jsonl").write_text("".join(lines[:5]))
    return out


def losses(out: Path) -> list[tuple[float, float | None]]:
    return [(line["loss"], line.get("held_out_loss")) for line in read_metrics(out / "metrics.jsonl")]


@pytest.mark.parametrize("flags", [[], ["--resume"]])
def test_the_same_command_again_goes_on(
    flags: list[str], graft: Graft, few: Path, finished: Path, tmp_path: Path
) -> None:
    out = broken_off(finished, tmp_path / "run")
    ran = graft(*command(few, out), *flags, "--json")
    assert ran.code == 0, ran.err
    assert f"{out} holds this run, unfinished: going on after step 4" in ran.err
    assert (out / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()
    assert losses(out) == losses(finished)
    again = graft(*command(few, out), *flags, "--json")
    assert again.code == 0
    assert f"{out} holds this run, finished: there is nothing to do" in again.err
    assert again.json | {"seconds": 0} == ran.json | {"seconds": 0}


def test_without_a_folder_the_same_command_finds_its_run(
    graft: Graft, few: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(finished, tmp_path / "runs" / "rows")
    broken_off(finished, tmp_path / "runs" / "rows-2")
    short = [part for part in command(few, tmp_path) if part not in ("--out", str(tmp_path))]
    for name, step in (("rows-2", "going on after step 4"), ("rows-3", "step 1/6")):
        ran = graft(*short, "--json")
        assert ran.code == 0, ran.err
        assert ran.json["adapter"] == f"runs/{name}/adapter", "one that is finished is left as it is"
        assert step in ran.err
        assert (tmp_path / "runs" / name / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()


def test_without_a_folder_settings_that_may_change_find_the_run_too(
    graft: Graft, few: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    broken_off(finished, tmp_path / "runs" / "rows")
    short = [part for part in command(few, tmp_path, "train.eval_every=3") if part not in ("--out", str(tmp_path))]
    ran = graft(*short, "--allow", "train.eval_every", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["adapter"] == "runs/rows/adapter"


def test_a_run_without_a_whole_checkpoint_is_not_begun_anew_over_them(
    graft: Graft, few: Path, finished: Path, tmp_path: Path
) -> None:
    out = broken_off(finished, tmp_path / "run")
    for folder in (out / "checkpoints").iterdir():
        (folder / "state.json").unlink()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    ran = graft(*command(few, out))
    assert ran.code == 2
    for folder in (out / "checkpoints").iterdir():
        assert f"{folder / 'state.json'} is missing" in ran.err
    assert f"to begin anew, delete {out / 'checkpoints'}" in ran.err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    shutil.rmtree(out / "checkpoints")
    ran = graft(*command(few, out))
    assert ran.code == 0, ran.err
    assert (out / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()


def change_line(out: Path, number: int, **changes: Any) -> None:
    """As whoever edits it, or a disk that lies."""
    lines = (out / "metrics.jsonl").read_text().splitlines(keepends=True)
    lines[number - 1] = json.dumps(json.loads(lines[number - 1]) | changes) + "\n"
    (out / "metrics.jsonl").write_text("".join(lines))


def test_a_checkpoint_whose_lines_were_changed_is_passed_over(
    graft: Graft, few: Path, finished: Path, tmp_path: Path
) -> None:
    out = broken_off(finished, tmp_path / "run")
    change_line(out, 4, held_out_loss=0.1)  # would be the best step
    ran = graft(*command(few, out))
    assert ran.code == 0, ran.err
    said = f"a broken checkpoint is passed over: {out / 'metrics.jsonl'} was changed: its lines up to step 4"
    assert said in ran.err
    assert "going on after step 2" in ran.err
    assert (out / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()
    assert losses(out) == losses(finished)


@pytest.mark.parametrize("changes", [{"held_out_loss": 0.1}, {"lr": "fast"}, {"step": "2"}, {"step": 3}])
def test_and_none_is_left_where_the_first_lines_were(
    changes: dict[str, Any], graft: Graft, few: Path, finished: Path, tmp_path: Path
) -> None:
    out = broken_off(finished, tmp_path / "run")
    change_line(out, 2, **changes)
    before = (out / "metrics.jsonl").read_bytes()
    ran = graft(*command(few, out))
    assert ran.code == 2
    assert f"none of its checkpoints is whole: {out / 'metrics.jsonl'}" in ran.err
    assert "Traceback" not in ran.err
    assert (out / "metrics.jsonl").read_bytes() == before


def test_a_run_that_has_only_begun_begins_anew(graft: Graft, few: Path, finished: Path, tmp_path: Path) -> None:
    out = broken_off(finished, tmp_path / "run")
    for name in ("checkpoints", "metrics.jsonl", "data.json", "environment.json"):
        shutil.rmtree(out / name) if (out / name).is_dir() else (out / name).unlink()
    ran = graft(*command(few, out))
    assert ran.code == 0, ran.err
    assert "there is no whole checkpoint: the run begins anew" in ran.err
    assert (out / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()
    assert (out / "data.json").read_bytes() == (finished / "data.json").read_bytes()


def test_other_settings_are_named_and_refused(graft: Graft, few: Path, finished: Path, tmp_path: Path) -> None:
    out = broken_off(finished, tmp_path / "run")
    before = sorted(out.rglob("*"))
    ran = graft(*command(few, out, "lora.r=4", "train.eval_every=3"))
    assert ran.code == 2
    assert "train.eval_every 50 -> 3; " in ran.err or "; train.eval_every 50 -> 3" in ran.err
    assert "lora.r 2 -> 4" in ran.err
    assert "a run cannot go on with another lora.r" in ran.err
    ran = graft(*command(few, out, "train.eval_every=3"))
    assert ran.code == 2
    assert "--allow train.eval_every (changes no step)" in ran.err
    ran = graft(*command(few, out, "lora.r=4"), "--allow", "lora.r")
    assert ran.code == 2
    assert "what may change: checkpoint.every" in ran.err
    ran = graft(*command(few, out), "--allow", "train.evry")
    assert ran.code == 2
    assert "unknown setting" in ran.err
    assert sorted(out.rglob("*")) == before, "nothing is written"


def test_what_would_be_done_is_refused_as_it_would_be(graft: Graft, few: Path, finished: Path, tmp_path: Path) -> None:
    out = broken_off(finished, tmp_path / "run")
    other = (*command(few, out, "train.eval_every=3"), "--dry-run")
    assert graft(*other).code == 2
    assert graft(*other, "--allow", "train.eval_every").code == 0
    ran = graft(*command(few, tmp_path / "new"), "--dry-run", "--resume")
    assert ran.code == 2
    assert "holds no run to go on with" in ran.err


def other_rows(rows: Path, out: Path) -> None:
    rows.write_text(rows.read_text(encoding="utf-8").replace("a", "e", 1), encoding="utf-8")


def other_rows_of_a_finished_run(rows: Path, out: Path) -> None:
    out.rename(out.with_name("broken-off"))
    out.with_name("finished").rename(out)
    other_rows(rows, out)


def no_whole_checkpoint(rows: Path, out: Path) -> None:
    for folder in (out / "checkpoints").iterdir():
        (folder / "state.json").unlink()


def a_lost_line(rows: Path, out: Path) -> None:
    (out / "metrics.jsonl").write_text("")


def broken_facts(rows: Path, out: Path) -> None:
    (out / "environment.json").write_text("[]")


def other_settings_behind_its_back(rows: Path, out: Path) -> None:
    text = (out / "config.yaml").read_text()
    (out / "config.yaml").write_text(text.replace("learning_rate: 0.004", "learning_rate: 0.005"))


REFUSED = [
    (other_rows, ()),
    (other_rows_of_a_finished_run, ()),
    (no_whole_checkpoint, ()),
    (a_lost_line, ()),
    (broken_facts, ()),
    (other_settings_behind_its_back, ("--set", "train.learning_rate=5e-3")),
    (lambda rows, out: None, ("--set", "train.max_steps=9", "--allow", "train.max_steps")),
    (lambda rows, out: None, ("--set", "train.max_steps=3", "--allow", "train.max_steps")),
]


@pytest.mark.parametrize(("befall", "more"), REFUSED, ids=[f"{befall.__name__}{more[1:]}" for befall, more in REFUSED])
def test_a_run_that_cannot_be_gone_on_with_is_refused_alike(
    befall: Callable[[Path, Path], None], more: tuple[str, ...], graft: Graft, few: Path, finished: Path, tmp_path: Path
) -> None:
    rows, out = Path(shutil.copy(few, tmp_path / "rows.jsonl")), tmp_path / "run"
    shutil.copytree(finished, tmp_path / "finished")
    broken_off(finished, out)
    befall(rows, out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file() and path.name != ".lock"}
    given = (*command(rows, out), "--allow", "data.path", *more)
    planned, ran = graft(*given, "--dry-run"), graft(*given)
    assert planned.code == ran.code == 2
    assert planned.err == ran.err.splitlines(keepends=True)[-2] + ran.err.splitlines(keepends=True)[-1]
    assert {p: p.read_bytes() for p in out.rglob("*") if p.is_file() and p.name != ".lock"} == before


def test_where_no_run_can_begin_is_said_before_anything_is_read(
    graft: Graft, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("mine")
    (tmp_path / "begun").mkdir()
    short = [part for part in command(few, tmp_path) if part not in ("--out", str(tmp_path))]
    with locked(tmp_path / "begun", print):
        for given, said in (
            (command(few, tmp_path / "file" / "a" / "run"), f"{tmp_path / 'file'} is not a folder"),
            (command(few, tmp_path / "begun"), "is being written by process"),
            ([*short, "--allow", "lora.r"], "a run cannot go on with another lora.r"),
            ([*short, "--allow", "foo"], "--allow foo: unknown setting"),
        ):
            planned, ran = graft(*given, "--dry-run"), graft(*given)
            assert planned.code == ran.code == 2
            assert said in planned.err
            assert planned.err == ran.err
            assert "``" not in ran.err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["begun", "file"]


def test_what_would_be_done_is_told_of_a_run_that_is_there(
    graft: Graft, few: Path, finished: Path, tmp_path: Path
) -> None:
    out = broken_off(finished, tmp_path / "run")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    plan = graft(*command(few, out), "--dry-run", "--json").json
    assert plan["steps"] == 6
    assert plan["notes"][-1] == f"{out} holds this run, unfinished: going on after step 4"
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    plan = graft(*command(few, finished), "--dry-run", "--json").json
    assert plan["steps"] == 0
    assert plan["notes"] == [f"{finished} holds this run, finished: there is nothing to do"]


def test_what_changes_no_step_may_change(graft: Graft, few: Path, finished: Path, tmp_path: Path) -> None:
    out = broken_off(finished, tmp_path / "run")
    ran = graft(*command(few, out, "train.eval_every=1"), "--allow", "train.eval_every")
    assert ran.code == 0, ran.err
    assert (out / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()
    assert [held_out is not None for _, held_out in losses(out)] == [False] * 4 + [True] * 2
    assert build_config(read_config(out / "config.yaml")).train.eval_every == 1


def test_a_run_can_be_made_longer_where_its_rates_do_not_know_its_length(
    graft: Graft, few: Path, tmp_path: Path
) -> None:
    constant = ("train.schedule=constant", "train.warmup_steps=2")
    out, long = tmp_path / "run", tmp_path / "long"
    assert graft(*command(few, out, *constant)).code == 0
    assert graft(*command(few, long, *constant, "train.max_steps=8")).code == 0
    ran = graft(*command(few, out, *constant, "train.max_steps=8"), "--allow", "train.max_steps")
    assert ran.code == 0, ran.err
    assert "going on after step 6" in ran.err
    assert (out / WEIGHTS).read_bytes() == (long / WEIGHTS).read_bytes()
    assert [loss for loss, _ in losses(out)] == [loss for loss, _ in losses(long)]
    assert [step for step, (_, held_out) in enumerate(losses(out), start=1) if held_out] == [6, 8]
    assert [step for step, (_, held_out) in enumerate(losses(long), start=1) if held_out] == [8]
    ran = graft(*command(few, out, *constant, "train.max_steps=3"), "--allow", "train.max_steps")
    assert ran.code == 2
    assert "step 8 is done, and the run is to have 3" in ran.err


def test_and_not_where_they_do(graft: Graft, few: Path, finished: Path, tmp_path: Path) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "run"))
    ran = graft(*command(few, out, "train.max_steps=9"), "--allow", "train.max_steps")
    assert ran.code == 2
    assert "had the rate" in ran.err
    assert "under the schedule cosine rates depend on the length" in ran.err
    assert (out / "report.html").exists(), "the run is what it was"


def test_settings_that_were_changed_behind_its_back_are_found(
    graft: Graft, few: Path, finished: Path, tmp_path: Path
) -> None:
    out = broken_off(finished, tmp_path / "run")
    config = build_config(read_config(out / "config.yaml"), {"train.learning_rate": 1e-3})
    (out / "config.yaml").write_text(dump_config(config))
    ran = graft(*command(few, out, "train.learning_rate=1e-3"))
    assert ran.code == 2
    assert "config.yaml was changed" in ran.err


def test_other_data_are_named_and_refused(graft: Graft, few: Path, finished: Path, tmp_path: Path) -> None:
    data = tmp_path / "rows.jsonl"
    shutil.copy(few, data)
    out = tmp_path / "run"
    assert graft(*command(data, out, "train.max_steps=2")).code == 0
    (out / "report.html").unlink()
    lines = data.read_text(encoding="utf-8").splitlines(keepends=True)
    data.write_text("".join(lines[:-3]), encoding="utf-8")
    ran = graft(*command(data, out, "train.max_steps=2"))
    assert ran.code == 2
    assert f"SHA-256 of {data} " in ran.err
    assert "training rows 36 -> 33" in ran.err
    assert "held out rows" not in ran.err
    assert not (out / "report.html").exists()


def test_a_finished_run_is_not_given_for_other_data(graft: Graft, few: Path, finished: Path, tmp_path: Path) -> None:
    out, moved = Path(shutil.copytree(finished, tmp_path / "run")), tmp_path / "rows.jsonl"
    lines = few.read_text(encoding="utf-8").splitlines(keepends=True)
    moved.write_text("".join(reversed(lines)), encoding="utf-8")
    ran = graft(*command(moved, out), "--allow", "data.path")
    assert ran.code == 2
    assert f"SHA-256 of {moved} " in ran.err
    shutil.copy(few, moved)
    ran = graft(*command(moved, out), "--allow", "data.path")
    assert ran.code == 0, ran.err
    assert "finished: there is nothing to do" in ran.err


def test_data_that_only_moved_may_be_elsewhere(graft: Graft, few: Path, finished: Path, tmp_path: Path) -> None:
    out = broken_off(finished, tmp_path / "run")
    moved = tmp_path / "moved.jsonl"
    shutil.copy(few, moved)
    ran = graft(*command(moved, out))
    assert ran.code == 2
    assert f"data.path {few} -> {moved}" in ran.err
    assert "--allow data.path (where the same rows lie now)" in ran.err
    ran = graft(*command(moved, out), "--allow", "data.path")
    assert ran.code == 0, ran.err
    assert (out / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()
    moved.write_text(few.read_text(encoding="utf-8") + few.read_text(encoding="utf-8")[:300].split("\n")[0] + "\n")
    (out / "report.html").unlink()
    ran = graft(*command(moved, out))
    assert ran.code == 2
    assert f"SHA-256 of {moved} " in ran.err


def test_another_machine_is_said(graft: Graft, few: Path, finished: Path, tmp_path: Path) -> None:
    out = broken_off(finished, tmp_path / "run")
    said = json.loads((out / "environment.json").read_text())
    (out / "environment.json").write_text(json.dumps(said | {"torch": "2.0.0", "threads": 64}))
    ran = graft(*command(few, out))
    assert ran.code == 0, ran.err
    assert f"torch 2.0.0 -> {said['torch']}; its bits may be other than without the break" in ran.err
    assert "threads 64 -> " in ran.err
    assert "memory" not in ran.err


@pytest.mark.parametrize("name", ["data.json", "environment.json"])
@pytest.mark.parametrize("content", [b"[]", b"\xff"])
def test_facts_that_are_broken_are_named(
    name: str, content: bytes, graft: Graft, few: Path, finished: Path, tmp_path: Path
) -> None:
    out = broken_off(finished, tmp_path / "run")
    (out / name).write_bytes(content)
    ran = graft(*command(few, out))
    assert ran.code == 2
    assert f"{out / name} " in ran.err
    assert "Traceback" not in ran.err
    (out / name).unlink()
    assert graft(*command(few, out)).code == 0
    assert (out / name).exists()


def test_a_finished_run_says_what_it_came_to_without_its_lines(
    graft: Graft, few: Path, finished: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(finished, tmp_path / "run"))
    (out / "metrics.jsonl").unlink()
    ran = graft(*command(few, out), "--json")
    assert "finished: there is nothing to do" in ran.err
    assert ran.json["steps"] == json.loads((finished / "result.json").read_bytes())["steps"] > 0


def test_two_processes_never_write_one_run(graft: Graft, few: Path, finished: Path, tmp_path: Path) -> None:
    out = broken_off(finished, tmp_path / "run")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with locked(out, print):
        held = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        ran = graft(*command(few, out))
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == held
    assert ran.code == 2
    assert "is being written by process " in ran.err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(
    graft: Graft, few: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=1000))
    ran = graft(*command(few, tmp_path / "run"), "--json")
    assert ran.code == 4
    assert ran.json["exit_code"] == 4
    assert f"checkpoint.keep 3, takes 3.1 MB, and {tmp_path} has 0.0 MB left" in ran.err
    assert not list(tmp_path.iterdir())


def test_a_run_works_in_another_thread(few: Path, finished: Path, tmp_path: Path) -> None:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(api.train(settings_of(few), out=tmp_path / "run")))
    thread.start()
    thread.join()
    assert results[0].steps == 6
    assert (tmp_path / "run" / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()


def test_an_adapter_without_a_manifest_is_taken_and_said_to_be_unproven(
    graft: Graft, finished: Path, tmp_path: Path
) -> None:
    adapter = shutil.copytree(finished / "adapter", tmp_path / "adapter")
    asked = ("--prompt", "Say hello.", "--max-new-tokens", 2)
    ran = graft("chat", "--adapter", adapter, *asked)
    assert ran.code == 0
    assert "proven" not in ran.err
    (tmp_path / "adapter" / "MANIFEST.json").unlink()
    ran = graft("chat", "--adapter", adapter, *asked)
    assert ran.code == 0
    assert "no manifest, so whether it is the adapter that was written is not proven" in ran.err


def test_the_step_that_becomes_the_last_in_a_shorter_run_is_measured(
    graft: Graft, few: Path, finished: Path, tmp_path: Path
) -> None:
    """Of a run with constant rates, whose first four steps are those of a run of four."""
    constant = ("train.schedule=constant", "train.warmup_steps=0")
    longer, whole = tmp_path / "longer", tmp_path / "whole"
    assert graft(*command(few, longer, *constant)).code == 0
    assert graft(*command(few, whole, *constant, "train.max_steps=4")).code == 0
    out = broken_off(longer, tmp_path / "run")
    (out / "metrics.jsonl").write_text("".join((longer / "metrics.jsonl").read_text().splitlines(keepends=True)[:4]))
    ran = graft(*command(few, out, *constant, "train.max_steps=4"), "--allow", "train.max_steps")
    assert ran.code == 0, ran.err
    assert losses(out) == losses(whole)
    assert losses(out)[-1][1] is not None
    assert (out / WEIGHTS).read_bytes() == (whole / WEIGHTS).read_bytes()


@pytest.mark.parametrize("lost", ["metrics.jsonl", "checkpoints"])
def test_a_finished_run_that_cannot_be_gone_on_with_keeps_its_result(
    lost: str, graft: Graft, few: Path, finished: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    shutil.copytree(finished, out)
    shutil.rmtree(out / lost) if lost == "checkpoints" else (out / lost).unlink()
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    ran = graft(*command(few, out, "best.by=last"), "--allow", "best.by")
    assert ran.code == 2
    assert "Traceback" not in ran.err
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    assert graft(*command(few, out)).code == 0, "what it came to is told as before"


def test_what_another_process_did_while_the_base_was_loaded_is_noticed(
    few: Path, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = broken_off(finished, tmp_path / "run")
    prepare = train_command.prepare

    def meanwhile(*arguments: Any, **named: Any) -> Any:
        shutil.rmtree(out)
        shutil.copytree(finished, out)
        (out / "result.json").write_text((finished / "result.json").read_text() + " ")
        return prepare(*arguments, **named)

    monkeypatch.setattr(train_command, "prepare", meanwhile)
    with pytest.raises(GraftError, match="another process went on with it meanwhile"):
        api.train(settings_of(few), out=out)
    assert (out / "result.json").exists()
    assert (out / WEIGHTS).read_bytes() == (finished / WEIGHTS).read_bytes()
