"""The main job with the real seedling, as users run it: train, evaluate, merge, chat."""

import json
import re
import shutil
from pathlib import Path

import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

import graft as api
from graft.config import Config
from graft.training import read_metrics
from tests.commands.conftest import QUICK, Graft

METRICS = {
    "step", "time", "loss", "lr", "grad_norm", "samples", "tokens_logical", "tokens_executed", "tokens_trained",
    "peak_memory_bytes",
}  # fmt: skip
FIGURES = {"loss", "perplexity", "exact_match", "rouge_l", "seconds", "tokens_per_s", "peak_memory_bytes"}


def test_train_leaves_a_whole_run(graft: Graft, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    ran = graft(
        "train", "--model", "seedling", "--data", rows, "--out", out, *QUICK, "--set", "checkpoint.every=5", "--json"
    )
    assert ran.code == 0, ran.err
    assert set(ran.json) == {
        "adapter", "steps", "first_eval_loss", "last_eval_loss", "best_step", "best_eval_loss", "stopped", "seconds",
    }  # fmt: skip
    assert ran.json["adapter"] == str(out / "adapter")
    assert ran.json["steps"] == 12
    assert ran.json["last_eval_loss"] < ran.json["first_eval_loss"]
    assert {p.name for p in out.iterdir()} - {".lock"} == {
        "adapter", "checkpoints", "config.yaml", "data.json", "environment.json", "metrics.jsonl", "report.html",
        "result.json",
    }  # fmt: skip
    assert sorted(p.name for p in (out / "checkpoints").iterdir()) == ["step-000005", "step-000010"]
    lines = read_metrics(out / "metrics.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 13))
    assert all(set(line) - {"held_out_loss"} == METRICS for line in lines)
    assert all(line["tokens_executed"] < line["tokens_logical"] for line in lines), "the preamble is shared"
    settings = yaml.safe_load((out / "config.yaml").read_text())
    assert Config.model_validate(settings).train.max_steps == 12
    assert "step 12/12" in ran.err
    assert "s left" in ran.err


@pytest.mark.parametrize("method", ["prefix", "full", "lora+llama_adapter"])
def test_every_method_goes_the_whole_way(method: str, graft: Graft, rows: Path, tmp_path: Path) -> None:
    """Trained, broken off and gone on with to the same bits, measured, asked; merged where it can be."""
    rate = 0.03 if method == "prefix" else 0.004  # a prefix begins as noise
    options = ("--data", rows, *QUICK, "--method", method, "--set", "checkpoint.every=4")
    options += ("--set", f"train.learning_rate={rate}")
    whole, broken, merged = (tmp_path / name for name in ("whole", "broken", "merged"))
    assert graft("train", "--out", whole, *options).code == 0
    shutil.copytree(whole, broken)
    shutil.rmtree(broken / "adapter")
    shutil.rmtree(broken / "checkpoints" / "step-000012")
    ran = graft("train", "--out", broken, *options, "--resume", "--json")
    assert ran.code == 0, ran.err
    files = sorted(path.relative_to(whole) for path in (whole / "adapter").rglob("*.safetensors"))
    assert [str(file) for file in files] == [
        f"adapter/{part}adapter_model.safetensors" for part in (["llama_adapter/", "lora/"] if "+" in method else [""])
    ]
    for file in files:
        assert (whole / file).read_bytes() == (broken / file).read_bytes()
    ran = graft("eval", "--adapter", whole, "--out", tmp_path / "report.html", "--max-new-tokens", 4, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["candidates"]["adapter"]["loss"] < ran.json["candidates"]["base"]["loss"]
    assert graft("chat", "--adapter", whole, "--prompt", "Say hello.", "--max-new-tokens", 4).code == 0
    ran = graft("merge", "--adapter", whole, "--out", merged, "--json")
    if method == "full":
        assert ran.json["proof"]["holds"], ran.err
    else:
        assert (ran.code, merged.exists()) == (2, False)
        assert "cannot be merged" in ran.err


def test_adapters_are_merged_with_weights(graft: Graft, rows: Path, tmp_path: Path) -> None:
    for name, seed in (("one", 1), ("other", 2)):
        more = ("--set", f"train.seed={seed}")
        assert graft("train", "--data", rows, "--out", tmp_path / name, *QUICK, *more).code == 0
    both = ("--adapter", tmp_path / "one", "--adapter", tmp_path / "other", "--out", tmp_path / "merged")
    ran = graft("merge", *both)
    assert ran.code == 2
    assert "2 adapters and 0 weights" in ran.err
    ran = graft("merge", *both, "--weight", 0.7, "--weight", 0.3, "--json")
    assert ran.code == 0, ran.err
    assert ran.json["proof"]["holds"]


def test_adapters_of_other_weights_are_not_merged_unasked(graft: Graft, run_folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(run_folder / "adapter", other)
    said = json.loads((other / "graft.json").read_text())
    (other / "graft.json").write_text(json.dumps(said | {"base_quantize": "int8"}))
    (other / "MANIFEST.json").unlink()  # it was changed on purpose
    both = ("--adapter", run_folder, "--adapter", other, "--weight", 0.5, "--weight", 0.5)
    ran = graft("merge", *both, "--out", tmp_path / "merged")
    assert ran.code == 2
    assert "with model.quantize int8" in ran.err
    ran = graft("merge", *both, "--out", tmp_path / "merged", "--set", "model.quantize=none", "--json")
    assert ran.code == 0, ran.err


def test_two_runs_write_the_same_bytes(graft: Graft, rows: Path, tmp_path: Path) -> None:
    for name in ("one", "other"):
        assert graft("train", "--data", rows, "--out", tmp_path / name, *QUICK).code == 0
    one, other = tmp_path / "one" / "adapter", tmp_path / "other" / "adapter"
    for file in one.iterdir():
        assert file.read_bytes() == (other / file.name).read_bytes(), file.name
    assert graft("train", "--data", rows, "--out", tmp_path / "third", *QUICK, "--set", "train.seed=7").code == 0
    weights = "adapter_model.safetensors"
    assert (tmp_path / "third" / "adapter" / weights).read_bytes() != (one / weights).read_bytes()


@pytest.mark.parametrize("optimizer", ["adamw", pytest.param("adamw_8bit", marks=pytest.mark.slow)])
def test_resume_gives_the_bits_of_the_run_that_was_not_broken_off(
    optimizer: str, graft: Graft, rows: Path, tmp_path: Path
) -> None:
    if optimizer == "adamw_8bit":
        pytest.importorskip("bitsandbytes")
    options = ("--data", rows, *QUICK, "--set", "checkpoint.every=4", "--set", f"train.optimizer={optimizer}")
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    assert graft("train", "--out", whole, *options).code == 0
    shutil.copytree(whole, broken)
    shutil.rmtree(broken / "adapter")  # as if killed in step 11, and a checkpoint spoiled
    lines = (broken / "metrics.jsonl").read_text().splitlines(keepends=True)
    (broken / "metrics.jsonl").write_text("".join(lines[:10]) + lines[10][:9])
    (broken / "checkpoints" / "step-000012" / "state.json").write_text("{}")
    ran = graft("train", "--out", broken, *options, "--resume", "--json")
    assert ran.code == 0, ran.err
    assert "state.json is not the file that was written" in ran.err
    assert "going on after step 8" in ran.err
    weights = "adapter_model.safetensors"
    assert (broken / "adapter" / weights).read_bytes() == (whole / "adapter" / weights).read_bytes()
    timeless = [
        [{k: v for k, v in line.items() if k not in ("time", "peak_memory_bytes")} for line in read_metrics(path)]
        for path in (whole / "metrics.jsonl", broken / "metrics.jsonl")
    ]
    assert timeless[0] == timeless[1]

    changed = graft("train", "--out", broken, *options, "--set", "lora.r=2", "--resume")
    assert changed.code == 2
    assert "settings are not those of the run" in changed.err
    assert "lora.r 16 -> 2" in changed.err


def test_biases_that_the_base_has_not_are_spoken_of(graft: Graft, rows: Path) -> None:
    ran = graft("train", "--data", rows, *QUICK, "--set", "lora.bias=all", "--dry-run", "--json")
    assert ran.json["notes"][-1] == "lora.bias=all trains none: no layer that it means has a bias"


def test_dry_run_says_what_would_be_done_and_writes_nothing(graft: Graft, rows: Path, tmp_path: Path) -> None:
    ran = graft("train", "--data", rows, "--out", tmp_path / "run", *QUICK, "--dry-run", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["steps"] == 12
    assert ran.json["rows"] + ran.json["held_out"] == 240
    assert ran.json["tokens_executed"] < ran.json["tokens_logical"]
    assert not (tmp_path / "run").exists()


def test_config_file_flags_and_set_write_to_the_same_settings(graft: Graft, rows: Path, tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(f"data: {{path: {rows}, cutoff: 256}}\nlora: {{r: 4}}\ntrain: {{max_steps: 2}}\n")
    ran = graft("train", "--config", config, "--set", "lora.r=2", "--out", tmp_path / "run")
    assert ran.code == 0, ran.err
    written = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert (written["lora"]["r"], written["train"]["max_steps"]) == (2, 2)
    assert json.loads((tmp_path / "run" / "adapter" / "adapter_config.json").read_text())["r"] == 2


def test_eval_merge_and_eval_again(graft: Graft, run_folder: Path, tmp_path: Path) -> None:
    merged = tmp_path / "merged"
    proof = graft("merge", "--adapter", run_folder, "--out", merged, "--json")
    assert proof.code == 0, proof.err
    assert proof.json["proof"]["holds"]
    assert proof.json["proof"]["difference"] <= 1e-4

    ran = graft("eval", "--adapter", run_folder, "--merged", merged, "--out", tmp_path / "r.html", "--json",
                "--max-new-tokens", 24)  # fmt: skip
    assert ran.code == 0, ran.err
    figures = ran.json["candidates"]
    assert list(figures) == ["base", "adapter", "merged"]
    assert all(set(f) == FIGURES for f in figures.values())
    assert figures["adapter"]["loss"] < figures["base"]["loss"]
    assert figures["merged"]["loss"] == pytest.approx(figures["adapter"]["loss"], rel=1e-4)
    assert figures["merged"]["exact_match"] == figures["adapter"]["exact_match"]
    last = read_metrics(run_folder / "metrics.jsonl")[-1]["held_out_loss"]
    assert figures["adapter"]["loss"] == pytest.approx(last, rel=1e-6), "measured on the rows that the run held out"
    assert graft("eval", "--adapter", run_folder, "--set", "data.seed=7").code == 2, "the rows held out stay those"

    report = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert "adapter" in report
    assert not re.search(r"""(src|href)=["']?http|<script""", report), "nothing is loaded from elsewhere"


@pytest.mark.parametrize("instructions", [False, True])
def test_a_base_in_half_precision_trains_merges_and_answers(
    instructions: bool, graft: Graft, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a processor with instructions for it and on one without."""
    monkeypatch.setattr("graft.runtime._has_instructions_for", lambda _: instructions)
    run, merged = tmp_path / "run", tmp_path / "merged"
    settings = ("--set", "model.dtype=bfloat16", *QUICK, "--set", "train.max_steps=4", "--set", "data.held_out=4")
    assert graft("train", "--data", rows, "--out", run, *settings).code == 0
    proof = graft("merge", "--adapter", run, "--out", merged, "--json")
    assert proof.code == 0, proof.err
    ran = graft("eval", "--adapter", run, "--merged", merged, "--json", "--max-new-tokens", 2)
    assert ran.code == 0, ran.err
    losses = {name: figures["loss"] for name, figures in ran.json["candidates"].items()}
    assert losses["merged"] == pytest.approx(losses["adapter"], rel=0.02)


def test_a_quantised_base_trains_and_is_the_same_one_in_every_later_verb(
    graft: Graft, rows: Path, tmp_path: Path
) -> None:
    run, merged = tmp_path / "run", tmp_path / "merged"
    quantised = ("--set", "model.quantize=nf4", "--set", "model.double_quant=false")
    settings = (*quantised, *QUICK, "--set", "train.max_steps=4", "--set", "data.held_out=4")
    ran = graft("train", "--data", rows, "--out", run, *settings, "--json")
    assert ran.code == 0, ran.err
    said = json.loads((run / "adapter" / "graft.json").read_text())
    assert (said["base_quantize"], said["base_double_quant"]) == ("nf4", False)

    proof = graft("merge", "--adapter", run, "--out", merged, "--json")
    assert proof.code == 0, proof.err
    assert proof.json["proof"]["difference"] <= 1e-4, "merged into the weights that it was trained on"
    figures = graft("eval", "--adapter", run, "--merged", merged, "--json", "--max-new-tokens", 2).json["candidates"]
    assert figures["adapter"]["loss"] == pytest.approx(ran.json["last_eval_loss"], rel=1e-6)
    assert figures["base"]["loss"] == pytest.approx(ran.json["first_eval_loss"], rel=1e-6)
    assert figures["merged"]["loss"] == pytest.approx(figures["adapter"]["loss"], rel=1e-4)
    plain = ("--set", "model.quantize=none", "--json", "--max-new-tokens", 2)
    other = graft("eval", "--adapter", run, *plain).json["candidates"]
    assert other["base"]["loss"] != pytest.approx(figures["base"]["loss"], rel=1e-4), "unless told otherwise"
    assert AutoModelForCausalLM.from_pretrained(merged).dtype == torch.float32
    eight = ("--set", "model.quantize=int8", "--json", "--max-new-tokens", 2)
    smaller = graft("eval", "--merged", merged, "--no-base", *eight).json["candidates"]["merged"]["loss"]
    assert 0 < abs(smaller - figures["merged"]["loss"]) < 0.1, "the merged model is quantised where that is asked for"


def test_kept_weights_change_no_bit_of_a_run(graft: Graft, rows: Path, tmp_path: Path) -> None:
    losses = []
    for cache in ("always", "never"):
        settings = ("--set", "model.quantize=int8", "--set", f"model.cache_dequantized={cache}")
        ran = graft("train", "--data", rows, "--out", tmp_path / cache, *settings, *QUICK, "--set", "train.max_steps=3")
        assert ran.code == 0, ran.err
        losses.append([line["loss"] for line in read_metrics(tmp_path / cache / "metrics.jsonl")])
    assert losses[0] == losses[1]
    weights = [
        (tmp_path / cache / "adapter" / "adapter_model.safetensors").read_bytes() for cache in ("always", "never")
    ]
    assert weights[0] == weights[1]


def test_eval_gives_the_candidates_that_were_asked_for(
    graft: Graft, run_folder: Path, rows: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text("".join(rows.read_text(encoding="utf-8").splitlines(keepends=True)[:8]), encoding="utf-8")
    common = ("--data", few, "--out", tmp_path / "r.html", "--max-new-tokens", 4, "--json")
    assert list(graft("eval", "--model", "seedling", *common).json["candidates"]) == ["base"]
    assert list(graft("eval", "--adapter", run_folder, "--no-base", *common).json["candidates"]) == ["adapter"]


def test_peft_and_transformers_give_the_logits_of_the_adapter(run_folder: Path) -> None:
    """The library `peft`, on the base as `transformers` loads it, against our forest."""
    base = AutoModelForCausalLM.from_pretrained(api.seedling_path(), dtype=torch.float32)
    theirs = PeftModel.from_pretrained(base, run_folder / "adapter").eval()
    ids = AutoTokenizer.from_pretrained(api.seedling_path())("Where does the story end? 你好。", return_tensors="pt")
    with torch.no_grad():
        expected = theirs(**ids).logits[0]
    from graft.evaluation import interrogate

    ours = api.load(adapter=run_folder).answerer
    stream = ids["input_ids"][0].tolist()
    found = interrogate(ours.bank, ours.slot, [stream[:1]], [], led_along=[stream[1:]]).logits[0]
    assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_the_merged_folder_is_a_plain_model_to_transformers(graft: Graft, run_folder: Path, tmp_path: Path) -> None:
    graft("merge", "--adapter", run_folder, "--out", tmp_path / "merged")
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "merged")
    ids = tokenizer("Once upon a time", return_tensors="pt")
    expected = theirs.generate(**ids, max_new_tokens=12, do_sample=False)[0, ids["input_ids"].shape[1] :].tolist()
    from graft.infer import Engine, Request

    ours = api.load(tmp_path / "merged").answerer
    request = Request(ids["input_ids"][0].tolist(), None, 12)
    answer = Engine(ours.bank, [theirs.generation_config.eos_token_id]).complete([request])[0]
    assert answer == [i for i in expected if i != theirs.generation_config.eos_token_id]


def test_chat_answers_and_streams_whole_characters(graft: Graft, run_folder: Path) -> None:
    ran = graft("chat", "--adapter", run_folder, "--prompt", "说出最后一个词。", "--input", "羊毛、车站", "--json")
    assert ran.code == 0, ran.err
    assert "\ufffd" not in ran.json["answer"]
    assistant = api.load(adapter=run_folder)
    pieces = list(assistant.stream("说出最后一个词。", "羊毛、车站"))
    assert "".join(pieces) == ran.json["answer"]
    drawn = graft("chat", "--adapter", run_folder, "--prompt", "Say something.", "--temperature", "1.5", "--json").json
    again = graft("chat", "--adapter", run_folder, "--prompt", "Say something.", "--temperature", "1.5", "--json").json
    other = graft("chat", "--adapter", run_folder, "--prompt", "Say something.", "--temperature", "1.5", "--json",
                  "--seed", 5).json  # fmt: skip
    assert drawn == again != other


def test_conversation_on_standard_input(graft: Graft, run_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("1+1?\n\n你好\nstop\nnever read\n"))
    ran = graft("chat", "--adapter", run_folder, "--max-new-tokens", 8)
    assert ran.code == 0, ran.err
    assert len(ran.out.rstrip("\n").split("\n")) >= 2


def test_the_adapters_own_template_is_used_wherever_it_goes(graft: Graft, rows: Path, tmp_path: Path) -> None:
    template = tmp_path / "mine.json"
    forms = {"prompt_input": "Q: {instruction} ({input})\nA: ", "prompt_no_input": "Q: {instruction}\nA: "}
    template.write_text(json.dumps(forms))
    run = tmp_path / "run"
    settings = ("--data", rows, "--out", run, *QUICK, "--set", f"data.template={template}")
    assert graft("train", *settings).code == 0
    template.unlink()
    assert api.load(adapter=run).answerer.template.prompt_no_input == forms["prompt_no_input"]
    graft("merge", "--adapter", run, "--out", tmp_path / "merged")
    assert api.load(tmp_path / "merged").answerer.template.prompt_no_input == forms["prompt_no_input"]


def test_wherever_the_adapter_goes_its_held_out_rows_stay_held_out(
    graft: Graft, run_folder: Path, rows: Path, tmp_path: Path
) -> None:
    last = read_metrics(run_folder / "metrics.jsonl")[-1]["held_out_loss"]
    moved = shutil.copytree(run_folder / "adapter", tmp_path / "moved")
    common = ("--no-base", "--out", tmp_path / "r.html", "--max-new-tokens", 2, "--json")
    for data in ((), ("--data", rows)):
        figures = graft("eval", "--adapter", moved, *data, *common).json["candidates"]["adapter"]
        assert figures["loss"] == pytest.approx(last, rel=1e-6)
    other = tmp_path / "other.jsonl"
    other.write_text("".join(rows.read_text(encoding="utf-8").splitlines(keepends=True)[:9]), encoding="utf-8")
    ran = graft("eval", "--adapter", moved, "--data", other, *common)
    assert ran.json["candidates"]["adapter"]["loss"] != pytest.approx(last, rel=1e-3)
    assert "every row of" in ran.err


@pytest.mark.slow
def test_demo(graft: Graft, tmp_path: Path) -> None:
    """The main job keeps its promise."""
    torch.set_num_threads(2)
    ran = graft("demo", "--out", tmp_path / "demo", "--json")
    assert ran.code == 0, ran.err
    figures = ran.json["candidates"]
    assert list(figures) == ["base", "adapter", "merged"]
    assert figures["base"]["exact_match"] <= 0.10
    assert figures["adapter"]["exact_match"] >= 0.80
    assert figures["merged"]["exact_match"] == figures["adapter"]["exact_match"]
    assert Path(ran.json["report"]).is_file()
