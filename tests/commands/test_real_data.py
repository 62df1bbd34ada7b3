"""Real rows and a real tokenizer, which are no part of the project: `../shared` beside the checkout, if it is there."""

import shutil
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from graft.training import read_metrics
from tests.commands.conftest import Graft

SHARED = Path(__file__).parents[2].parent / "shared"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (SHARED / "data").is_dir(), reason="needs ../shared/data and ../shared/llama2"),
]


@pytest.mark.parametrize("name", ["alpaca_en_demo.json", "alpaca_zh_demo.json"])
def test_with_no_option_the_run_ends_and_the_held_out_loss_falls(name: str, graft: Graft, tmp_path: Path) -> None:
    torch.set_num_threads(2)
    ran = graft("train", "--model", "seedling", "--data", SHARED / "data" / name, "--out", tmp_path / "run", "--json")
    assert ran.code == 0, ran.err
    assert ran.json["last_eval_loss"] < ran.json["first_eval_loss"] - 0.1


def test_a_llama_of_60m_parameters_with_the_tokenizer_of_llama_2(graft: Graft, tmp_path: Path) -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    shape = LlamaConfig(
        vocab_size=32_000, hidden_size=512, intermediate_size=1408, num_hidden_layers=8, num_attention_heads=8
    )
    model = LlamaForCausalLM(shape)
    assert 55e6 < sum(parameter.numel() for parameter in model.parameters()) < 65e6
    model.save_pretrained(tmp_path / "llama")
    shutil.copy(SHARED / "llama2" / "tokenizer.model", tmp_path / "llama")
    ran = graft(
        "train", "--model", tmp_path / "llama", "--data", SHARED / "data" / "alpaca_en_demo.json",
        "--out", tmp_path / "run", "--set", "train.max_steps=12", "--set", "train.learning_rate=1e-2",
        "--set", "train.warmup_steps=0", "--set", "data.held_out=20", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    assert ran.json["last_eval_loss"] < ran.json["first_eval_loss"] - 0.1
    assert len(read_metrics(tmp_path / "run" / "metrics.jsonl")) == 12
