"""A SentencePiece model with Llama's settings, and a random Llama of a few thousand parameters that goes with it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import sentencepiece
import torch
from transformers import LlamaConfig, LlamaForCausalLM

SENTENCES = """\
The ferry leaves the harbour at seven, and nobody on the quay waves to it any more.
She counted the coins twice: 12 of copper, 7 of silver, and one that she could not name.
Whether the bridge would hold was a question which the engineers had stopped asking aloud.
def area(width, height):
    return width * height  # in metres
for index in range(100):
        if index % 2 == 0:
                print(index)
He has been painting the same lighthouse since the autumn, and the lighthouse has not complained.
Was the answer 3.1415, 42 or 1,000,000? They wrote all three on the wall ==== and went home.
Die Fähre fährt um sieben Uhr ab; über dem Hafen kreisen Möwen, und der Kapitän grüßt.
Le café près du théâtre était fermé, mais le garçon nous a apporté du thé.
Паром уходит из гавани в семь часов утра, и чайки провожают его до маяка.
渡船七点离开港口，没有人再向它挥手。灯塔看着海。
港口的灯塔很旧，但是每天晚上都亮着。你好，世界！
"""


@pytest.fixture(scope="session")
def train_spm(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Train a SentencePiece model as Llama's was, but for the given options."""

    def train(**options: object) -> Path:
        folder = tmp_path_factory.mktemp("spm")
        (folder / "text").write_text(SENTENCES * 3, encoding="utf-8")
        settings: dict[str, object] = {
            "input": str(folder / "text"),
            "model_prefix": str(folder / "tokenizer"),
            "model_type": "bpe",
            "vocab_size": 700,
            "character_coverage": 0.995,
            "normalization_rule_name": "identity",
            "remove_extra_whitespaces": False,
            "allow_whitespace_only_pieces": True,
            "byte_fallback": True,
            "split_digits": True,
            "minloglevel": 2,
        }
        sentencepiece.SentencePieceTrainer.train(**settings | options)
        return folder / "tokenizer.model"

    return train


@pytest.fixture(scope="session")
def spm_file(train_spm: Callable[..., Path]) -> Path:
    return train_spm()


@pytest.fixture(scope="session")
def llama_folder(spm_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Do not write into it."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=700,
        hidden_size=16,
        intermediate_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=128,
    )
    folder = tmp_path_factory.mktemp("base") / "llama"
    LlamaForCausalLM(config).save_pretrained(folder)
    shutil.copy(spm_file, folder)
    return folder


@pytest.fixture
def folder(llama_folder: Path, tmp_path: Path) -> Path:
    """A copy of the model folder to break."""
    return Path(shutil.copytree(llama_folder, tmp_path / "llama"))
