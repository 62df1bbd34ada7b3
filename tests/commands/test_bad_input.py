"""Bad input: one clear message with the place and the way out, exit code 2, no traceback, nothing half-written."""

import json
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import huggingface_hub
import pytest
import torch

from graft import __version__
from graft.evaluation.conform import TOLERANCES
from graft.seedling import demo_train_path, seedling_path
from tests.commands.conftest import Graft

GOOD = {"instruction": "Say hello.", "input": "", "output": "Hello!"}
SEVERAL = [{**GOOD, "output": f"Hello{end}"} for end in "!?.,;:"]


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path


def refused(graft: Graft, tmp_path: Path, *arguments: object) -> str:
    """The message with which `graft train` refuses; everything that must hold of any refusal is checked."""
    out = tmp_path / "out"
    before = sorted(tmp_path.rglob("*"))
    ran = graft("train", "--out", out, *arguments)
    assert ran.code == 2
    assert "Traceback" not in ran.err + ran.out
    assert "->" in ran.err, "the way out is named"
    assert sorted(tmp_path.rglob("*")) == before, "nothing is written"
    return ran.err


ROWS = {
    "not-an-object": ([GOOD, [1, 2]], "rows.jsonl:2: a row must be an object"),
    "missing-key": ([GOOD, {"instruction": "Say hello."}], "rows.jsonl:2: the key `output` is missing"),
    "missing-key-in-the-first": ([{"instruction": "Say hello."}], "rows.jsonl:1: the key `output` is missing"),
    "other-keys": ([{"question": "?", "answer": "!"}], "rows.jsonl:1: no format has these keys"),
    "empty-answer": ([GOOD, GOOD, {**GOOD, "output": " "}], "rows.jsonl:3: `output` is empty"),
    "not-a-text": ([{**GOOD, "output": 7}], "rows.jsonl:1: `output` is int"),
}


@pytest.mark.parametrize("case", ROWS)
def test_rows(case: str, graft: Graft, tmp_path: Path) -> None:
    rows, expected = ROWS[case]
    assert expected in refused(graft, tmp_path, "--data", write(tmp_path / "rows.jsonl", *rows))


def test_no_data_and_none_left(graft: Graft, tmp_path: Path) -> None:
    assert "path is an empty list" in refused(graft, tmp_path, "--set", "data.path=[]")
    rows = write(tmp_path / "rows.jsonl", *SEVERAL)
    none = ("--set", f"data.path=[{rows}]", "--set", "data.mix=[0.000001]", "--set", "data.held_out=1")
    assert "data.mix [1e-06] takes no row to train on" in refused(graft, tmp_path, *none)


@pytest.mark.parametrize(("share", "said"), [("1e9", "5e+09 samples"), ("1e300", "5e+300 samples")])
def test_a_mix_without_end(share: str, said: str, graft: Graft, tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", *SEVERAL)
    error = refused(graft, tmp_path, "--data", rows, "--set", f"data.mix=[{share}]", "--set", "data.held_out=1")
    assert f"{said} an epoch, and 100,000,000 are the most" in error
    assert "lower its numbers in proportion" in error


def test_missing_file(graft: Graft, tmp_path: Path) -> None:
    assert "nowhere.json does not exist" in refused(graft, tmp_path, "--data", tmp_path / "nowhere.json")


def test_names_that_are_not_utf_8(graft: Graft, tmp_path: Path) -> None:
    odd, folder = tmp_path / "r\udcff.jsonl", tmp_path / "folder"
    write(odd, *SEVERAL)
    said = refused(graft, tmp_path, "--data", odd)
    assert "data.path" in said
    assert "is not valid UTF-8" in said
    folder.mkdir()
    odd.rename(folder / odd.name)
    for path in (folder, folder / "*.jsonl"):
        assert "r?.jsonl is not valid UTF-8" in refused(graft, tmp_path, "--data", path)
    rows = write(tmp_path / "rows.jsonl", *SEVERAL)
    ran = graft("train", "--data", rows, "--out", tmp_path / "\udcff")
    assert ran.code == 2
    assert "? is not valid UTF-8\n  -> give another --out" in ran.err
    assert not (tmp_path / "\udcff").exists()


def test_no_data(graft: Graft, tmp_path: Path) -> None:
    assert "--data" in refused(graft, tmp_path)


def test_not_json(graft: Graft, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    path.write_text('[\n {"instruction": "a", "output": "b"},\n {"instruction": oops}\n]')
    assert "rows.json:3: not JSON" in refused(graft, tmp_path, "--data", path)


def test_no_row_fits_the_cutoff(graft: Graft, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *SEVERAL)
    message = refused(graft, tmp_path, "--data", path, "--set", "data.cutoff=12")
    assert "no training row fits data.cutoff 12" in message
    assert re.search(r"rows\.jsonl:\d has 42 tokens", message)
    assert "data.cutoff to 42" in message


def test_no_trained_token(graft: Graft, tmp_path: Path) -> None:
    """Cut to the cutoff, no row has a token of its answer left."""
    path = write(tmp_path / "rows.jsonl", *SEVERAL)
    message = refused(graft, tmp_path, "--data", path, "--set", "data.cutoff=12", "--set", "data.too_long=cut")
    assert "rows.jsonl" in message
    assert "data.cutoff" in message


def test_a_row_above_the_cutoff_where_that_is_an_error(graft: Graft, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", GOOD, {**GOOD, "output": "long " * 90})
    options = ("--set", "data.cutoff=100", "--set", "data.too_long=error", "--set", "data.held_out=0")
    assert "rows.jsonl:2: " in refused(graft, tmp_path, "--data", path, *options)


def test_rows_above_the_cutoff_are_reported(graft: Graft, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *SEVERAL, {**GOOD, "output": "long " * 90})
    ran = graft("train", "--data", path, "--out", tmp_path / "run", "--set", "data.cutoff=100", "--set",
                "train.max_steps=1", "--set", "data.held_out=0", "--json")  # fmt: skip
    assert ran.code == 0, ran.err
    assert "1 of 7 rows are longer than data.cutoff 100" in ran.err
    assert "lines 7" in ran.err
    assert ran.json["first_eval_loss"] is None
    assert json.loads((tmp_path / "run" / "data.json").read_text())["too_long"] == [f"{path}:7"]


def test_a_row_above_the_forest(graft: Graft, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *SEVERAL)
    message = refused(graft, tmp_path, "--data", path, "--set", "train.max_tokens=20")
    assert "a sample of 42 tokens is above train.max_tokens 20" in message


@pytest.mark.parametrize("verb", ["train", "dry-run"])
@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("train.max_tokens=50", "raise train.max_tokens to 58"),
        ("prompt.num_virtual_tokens=2040", "set data.cutoff to 8 or less"),
    ],
)
def test_virtual_tokens_take_room_too(assignment: str, expected: str, verb: str, graft: Graft, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *SEVERAL)
    more = ("--dry-run",) if verb == "dry-run" else ()
    message = refused(graft, tmp_path, "--data", path, "--method", "prompt", "--set", assignment, *more)
    assert "a sample of 42 tokens behind" in message
    assert expected in message


def test_rows_to_measure_on_that_are_longer_than_the_model_are_refused(
    graft: Graft, run_folder: Path, tmp_path: Path
) -> None:
    path = write(tmp_path / "rows.jsonl", *[{**GOOD, "output": "long " * 2100}] * 2)
    given = ("--data", path, "--set", "data.cutoff=9000", "--out", tmp_path / "report.html")
    ran = graft("eval", "--adapter", run_folder, *given)
    assert ran.code == 2
    assert "2048 positions" in ran.err


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("train.lerning_rate=1", "`train.learning_rate`"),
        ("lora.rank=8", "lora.r"),
        ("lora.r=many", "lora.r"),
        ("train.schedule=cosinus", "train.schedule"),
        ("train.step_gamma=0.5", "the schedule cosine does not read step_gamma"),
        ("train.optimizer=adam", "train.optimizer"),
        ("train.lora_plus_ratio=0", "train.lora_plus_ratio"),
        ("data.template=alpca", "`alpaca`"),
        ("data.format=alpac", "`alpaca`"),
        ("lora.target_modules=qproj", "`q_proj`"),
        ("lora.target_modules=qproj", "down_proj"),
        ("lora.r=5000", "at most"),
        ("data.held_out=6", "data.held_out"),
        ("method=lorra", "method"),
        ("ia3.target_modules=k_proj", "the method lora does not read ia3.target_modules"),
        ("nonsense", "name=value"),
    ],
)
def test_settings(assignment: str, expected: str, graft: Graft, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *SEVERAL)
    assert expected in refused(graft, tmp_path, "--data", path, "--set", assignment)


@pytest.mark.skipif(torch.cuda.is_available(), reason="paged optimizers work on a CUDA device")
@pytest.mark.parametrize("verb", ["train", "dry-run"])
def test_an_optimizer_that_does_not_work_here_is_refused_before_anything_is_read(
    verb: str, graft: Graft, tmp_path: Path
) -> None:
    nowhere = ("--data", tmp_path / "nowhere.json", "--model", tmp_path / "nowhere")
    more = ("--dry-run",) if verb == "dry-run" else ()
    message = refused(graft, tmp_path, *nowhere, "--set", "train.optimizer=paged_adamw", *more)
    assert "train.optimizer paged_adamw" in message
    assert "adamw, adamw_8bit, adafactor, lion" in message or "graft-llm[quant]" in message


def test_unknown_setting_in_a_file(graft: Graft, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text("train: {epoch: 3}\n")
    assert "`train.epochs`" in refused(graft, tmp_path, "--config", config)


def test_unknown_flag_names_the_nearest(graft: Graft, tmp_path: Path) -> None:
    ran = graft("train", "--dta", "rows.json")
    assert ran.code == 2
    assert "--data" in ran.err
    assert "Traceback" not in ran.err


def test_output_folder_in_use(graft: Graft, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *SEVERAL)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    assert "out is in use" in refused(graft, tmp_path, "--data", path)


def test_resume_of_nothing(graft: Graft, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *SEVERAL)
    assert "no run to go on with" in refused(graft, tmp_path, "--data", path, "--resume")


@pytest.mark.parametrize(("file", "expected"), [(None, "safetensors"), ("pytorch_model.bin", "pickle")])
def test_model_without_weights_or_with_pickle_only(
    file: str | None, expected: str, graft: Graft, tmp_path: Path
) -> None:
    path = write(tmp_path / "rows.jsonl", *SEVERAL)
    model = tmp_path / "model"
    shutil.copytree(seedling_path(), model, ignore=shutil.ignore_patterns("*.safetensors"))
    if file:
        (model / file).write_bytes(b"\x80\x04N.")
    message = refused(graft, tmp_path, "--data", path, "--model", model)
    assert str(model) in message
    assert expected in message


def test_missing_model(graft: Graft, tmp_path: Path) -> None:
    path = write(tmp_path / "rows.jsonl", *SEVERAL)
    assert "nomodel" in refused(graft, tmp_path, "--data", path, "--model", tmp_path / "nomodel")


def test_refused_model_says_how_to_get_access(graft: Graft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    path = write(tmp_path / "rows.jsonl", *SEVERAL)
    message = refused(graft, tmp_path, "--data", path, "--model", "someone/some-model")
    assert "someone/some-model" in message
    assert "folder" in message


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("merge", "--adapter", "nowhere", "--out", "x"), "nowhere"),
        (("chat", "--adapter", "nowhere", "--prompt", "hi"), "nowhere"),
        (("chat", "--prompt", "hi", "--top-p", "0"), "top_p"),
        (("chat", "--json"), "--prompt"),
        (("eval", "--no-base"), "nothing to evaluate"),
        (("eval", "--data", "nowhere.json"), "nowhere.json"),
        (("train", "--resume"), "--out"),
        (("chat", "--prompt", "\udcff"), "Unicode"),
        (("chat", "--prompt", "hi", "--set", "lora.r=8"), "does not read lora.r"),
        (("merge", "--adapter", "x", "--out", "y", "--set", "train.seed=8"), "there is no folder x"),
        (("eval", "--set", "data.seed=7"), "does not read data.seed"),
    ],
)
def test_other_verbs(
    arguments: tuple[str, ...], expected: str, graft: Graft, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    ran = graft(*arguments)
    assert ran.code == 2
    assert expected in ran.err
    assert "Traceback" not in ran.err
    assert not list(tmp_path.iterdir())


def test_merge_into_a_folder_in_use(graft: Graft, run_folder: Path, tmp_path: Path) -> None:
    ran = graft("merge", "--adapter", run_folder, "--out", tmp_path)
    assert ran.code == 2
    assert "in use" in ran.err


def test_a_merge_that_is_not_proven_is_not_handed_over(
    graft: Graft, run_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(TOLERANCES, torch.float32, 0.0)
    ran = graft("merge", "--adapter", run_folder, "--out", tmp_path / "merged", "--json")
    assert ran.code == 3
    assert "does not answer" in ran.err
    assert ran.json["exit_code"] == 3
    assert not list(tmp_path.iterdir())


def test_the_version_is_said(graft: Graft) -> None:
    assert graft("--version").out == f"graft {__version__}\n"


def test_the_command_itself_leaves_with_the_code(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "graft"]
    ended = subprocess.run(
        [*command, "train", "--data", "nowhere.json", "--json"], capture_output=True, text=True, cwd=tmp_path
    )
    assert ended.returncode == 2
    assert "nowhere.json" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1])["exit_code"] == 2


def test_a_second_signal_does_not_wait_for_the_threads_of_a_library(tmp_path: Path) -> None:
    """Such as those of a download that does not come on, which Python would wait for."""
    code = """if True:
        import signal, threading, time
        from graft import cli

        def download(*arguments, **named):
            threading.Thread(target=time.sleep, args=[600]).start()
            try:
                signal.raise_signal(signal.SIGTERM)
            finally:
                signal.raise_signal(signal.SIGINT)

        cli.app = download
        cli.main()
    """
    ended = subprocess.run([sys.executable, "-c", code, "--json"], capture_output=True, text=True, timeout=300)
    assert ended.returncode == 130
    assert ended.stderr == "graft: stopped by SIGINT at once\n"
    assert json.loads(ended.stdout)["exit_code"] == 130


def test_interrupted(tmp_path: Path) -> None:
    """Ctrl-C leaves with 130; the run can be gone on with."""
    run = ("train", "--data", str(demo_train_path()), "--out", "run", "--set", "checkpoint.every=1")
    start = "import signal as s; s.signal(s.SIGINT, s.default_int_handler); from graft.cli import main; main()"
    process = subprocess.Popen([sys.executable, "-c", start, *run], cwd=tmp_path, stderr=subprocess.PIPE)
    assert process.stderr is not None
    for line in process.stderr:
        if b"checkpoint" in line:
            process.send_signal(signal.SIGINT)
            break
    assert b"Traceback" not in process.stderr.read()
    assert process.wait(timeout=60) == 130
    assert (tmp_path / "run" / "checkpoints" / "step-000001").is_dir()
