"""A NaN in one row, and memory that only the longest forests break."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from graft.commands.assembly import open_tokenizer
from graft.commands.samples import read_samples
from graft.config import ModelConfig, build_config, parse_settings
from graft.data import load_template
from graft.seedling import demo_train_path, seedling_path
from graft.training import Batches, read_metrics
from tests.torture.conftest import SETTINGS, Zygote

WEIGHTS = "adapter_model.safetensors"
EVERY_STEP = (
    "train.schedule=constant",
    "train.warmup_steps=1",
    "train.eval_every=0",
    "checkpoint.every=1",
    "best.by=last",
)


def rows_of_demo(count: int) -> list[dict[str, Any]]:
    return [json.loads(line) for line in demo_train_path().read_text(encoding="utf-8").splitlines()[:count]]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row, ensure_ascii=False)}\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, int]:
    """A base with an embedding that is no number, data of which one row has that token, and that row's line."""
    folder = tmp_path_factory.mktemp("poisoned")
    tokenizer = open_tokenizer(ModelConfig())
    rows = rows_of_demo(40)
    ids = [set(tokenizer.encode(" ".join(map(str, row.values())), first=False)) for row in rows]
    own = [mine.difference(*(other for j, other in enumerate(ids) if j != i)) for i, mine in enumerate(ids)]
    late = rows_of_steps(written(folder / "rows.jsonl", rows), range(4, 9))
    found = ((i, set(tokenizer.encode(rows[i]["output"], first=False)) & own[i]) for i in late)
    line, tokens = next((i, tokens) for i, tokens in found if tokens)
    token = min(tokens)
    base = folder / "base"
    shutil.copytree(seedling_path(), base)
    tensors = load_file(base / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    tensors["model.embed_tokens.weight"][token] = float("nan")
    save_file(tensors, base / "model.safetensors", metadata={"format": "pt"})
    settings = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(settings | {"tie_word_embeddings": False}))
    return base, folder / "rows.jsonl", line + 1


def rows_of_steps(data: Path, steps: range) -> list[int]:
    """The rows that these steps of a run take, counted from 0."""
    config = build_config(parse_settings([*SETTINGS, "data.held_out=0"]), {"data.path": str(data)})
    samples = read_samples(config.data, load_template("auto", None), open_tokenizer(config.model))
    batches = Batches(samples.train, global_batch=config.train.global_batch, epochs=1, max_steps=12, seed=42)
    sources = [sample.source for step in steps for sample in batches.of_step(step)]
    return [int(str(source).rpartition(":")[2]) - 1 for source in sources]


def command(zygote: Zygote, base: Path, data: Path, out: Path, *more: str) -> list[str]:
    settings = (*SETTINGS, *EVERY_STEP)
    return [*zygote.train(out, "data.held_out=0", *more, settings=settings, rows=data), "--model", str(base)]


def test_a_nan_in_one_row_is_named_and_the_weights_are_those_of_the_step_before(
    zygote: Zygote, poisoned: tuple[Path, Path, int], tmp_path: Path
) -> None:
    base, data, line = poisoned
    out = tmp_path / "run"
    code, words = zygote.live(command(zygote, base, data, out))
    assert code == 2, words
    told = words
    assert "Traceback" not in words
    assert "loss nan and gradient norm nan are not both finite" in words
    assert f"At fault: {data}:{line};" in words
    done = len(read_metrics(out / "metrics.jsonl"))
    assert f"step {done + 1}: " in words
    assert f"the weights are those of step {done}" in words
    assert done > 0, "it is not in the first step"
    until = tmp_path / "until"
    code, words = zygote.live(command(zygote, base, data, until, f"train.max_steps={done}"))
    assert code == 0, words
    saved = out / "checkpoints" / f"step-{done:06d}" / WEIGHTS
    assert saved.read_bytes() == (until / "adapter" / WEIGHTS).read_bytes()

    # what the error says is a way on, and leads where a run that skipped from the start would be
    lenient = ("bad_numbers.action=skip", "bad_numbers.budget=1")
    allowed = [part for name in ("action", "budget") for part in ("--allow", f"bad_numbers.{name}")]
    assert f"go on with --set {' --set '.join(lenient)} {' '.join(allowed)} in the same command" in told
    code, words = zygote.live([*command(zygote, base, data, out, *lenient), *allowed])
    assert code == 0, words
    skipping = tmp_path / "skipping"
    code, words = zygote.live(command(zygote, base, data, skipping, *lenient))
    assert code == 0, words
    assert (out / "adapter" / WEIGHTS).read_bytes() == (skipping / "adapter" / WEIGHTS).read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("action", ["skip", "roll_back"])
def test_a_run_that_leaves_it_out_is_killed_and_comes_to_the_same_bits(
    action: str, zygote: Zygote, poisoned: tuple[Path, Path, int], tmp_path: Path
) -> None:
    base, data, line = poisoned
    lenient = (f"bad_numbers.action={action}", "bad_numbers.budget=1", "checkpoint.every=2")
    whole = tmp_path / "whole"
    code, words = zygote.live(command(zygote, base, data, whole, *lenient))
    assert code == 0, words
    assert f"At fault: {data}:{line}; " in words
    lines = read_metrics(whole / "metrics.jsonl")
    left_out = [entry["step"] for entry in lines if "left_out" in entry]
    assert len(left_out) == 1
    for number in (left_out[0], left_out[0] + 1):
        out = tmp_path / f"cut {number}"
        told = {"function": "Gradient.of", "number": number, "names": ["SIGTERM"]}
        code, words = zygote.live(command(zygote, base, data, out, *lenient), signals=told)
        assert code == 143, words
        code, words = zygote.live(command(zygote, base, data, out, *lenient))
        assert code == 0, words
        assert (out / "adapter" / WEIGHTS).read_bytes() == (whole / "adapter" / WEIGHTS).read_bytes()
        again = read_metrics(out / "metrics.jsonl")
        assert [entry.get("loss") for entry in again] == [entry.get("loss") for entry in lines]


LONG = ("data.cutoff=1024", "data.held_out=0", "train.global_batch=48", "train.max_steps=4", "train.learning_rate=1e-3",
        "lora.r=2", "checkpoint.every=1")  # fmt: skip
LEFT = 100 << 20
"""Bytes: enough for a forest of some 1,300 tokens of the seedling, and not for one of 2,400."""


def longest_rows(path: Path) -> Path:
    """Rows of which every fourth one is many times as long as the others."""
    rows = rows_of_demo(160)
    many_words = " ".join(row["output"] for row in rows[:60])[:900]
    for row in rows[3::4]:
        row["output"] = many_words
    return written(path, rows)


@pytest.mark.slow
def test_memory_that_only_the_longest_forests_break_comes_to_the_same_update(zygote: Zygote, tmp_path: Path) -> None:
    data = longest_rows(tmp_path / "rows.jsonl")

    def arguments(out: Path) -> list[str]:
        return zygote.train(out, settings=LONG, rows=data)

    code, words = zygote.live(arguments(tmp_path / "whole"))
    assert code == 0, words
    assert "warning" not in words
    narrow = {"function": "Training.run", "more": LEFT}
    code, words = zygote.live(arguments(tmp_path / "narrow"), memory=narrow)
    assert code == 0, words
    assert "Traceback" not in words
    assert "warning: step 1: memory did not do for a forest of " in words
    whole, short = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("whole", "narrow"))
    assert all("max_tokens" in line for line in short)
    assert all("max_tokens" not in line for line in whole)
    for name in ("loss", "grad_norm"):
        assert [line[name] for line in short] == pytest.approx([line[name] for line in whole], rel=1e-6)
    tensors, others = (load_file(tmp_path / name / "adapter" / WEIGHTS) for name in ("whole", "narrow"))
    one, other = (torch.cat([part[name].flatten() for name in sorted(part)]) for part in (tensors, others))
    assert (one - other).norm() <= 1e-6 * one.norm()

    # killed behind step 2, and gone on with where memory is ample: the forests are as small, and the bits are the same
    out = Path(shutil.copytree(tmp_path / "narrow", tmp_path / "resumed"))
    shutil.rmtree(out / "adapter")
    (out / "report.html").unlink()
    for step in (3, 4):
        shutil.rmtree(out / "checkpoints" / f"step-{step:06d}")
    code, words = zygote.live(arguments(out))
    assert code == 0, words
    assert "going on after step 2" in words
    assert [line["loss"] for line in read_metrics(out / "metrics.jsonl")] == [line["loss"] for line in short]
    assert (out / "adapter" / WEIGHTS).read_bytes() == (tmp_path / "narrow" / "adapter" / WEIGHTS).read_bytes()
