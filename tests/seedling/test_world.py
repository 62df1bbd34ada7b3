"""The seedling: its world and rows come out the same every time, and what is shipped is what the generator makes."""

import itertools
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from graft.seedling import demo_held_out_path, demo_train_path, seedling_path, words
from graft.seedling.stories import documents
from graft.seedling.tasks import KINDS, make_tasks, write_rows
from graft.seedling.world import make_world

LARGEST_MODEL = 6_000_000  # bytes


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(seedling_path())


def some_text(count: int = 300) -> list[str]:
    return list(itertools.islice(documents(make_world(), random.Random(7)), count))


def test_text_does_not_depend_on_hash_seed() -> None:
    script = (
        "import itertools, random, zlib\n"
        "from graft.seedling.stories import documents\n"
        "from graft.seedling.tasks import make_tasks\n"
        "from graft.seedling.world import make_world\n"
        "texts = list(itertools.islice(documents(make_world(), random.Random(7)), 300))\n"
        "print(zlib.crc32(repr((make_world(), texts, make_tasks())).encode()))\n"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(printed) == 1


def test_a_word_has_one_translation() -> None:
    every = words.DICTIONARY + words.PEOPLE + words.TOWNS + words.COUNTRIES
    assert len({word.en for word in every}) == len({word.zh for word in every}) == len(every)


def test_a_question_has_one_answer() -> None:
    answers: dict[tuple[str, str], str] = {}
    for task in itertools.chain(*make_tasks()):
        assert answers.setdefault((task.instruction, task.input), task.output) == task.output


def test_held_out_rows_are_apart() -> None:
    train, held_out = make_tasks()
    assert not {task.key for task in train} & {task.key for task in held_out}
    for tasks in (train, held_out):
        asked = [(task.instruction, task.input) for task in tasks]
        assert len(set(asked)) == len(asked)
    assert len(held_out) == 200
    assert {task.kind for task in train} == {task.kind for task in held_out} == set(KINDS)


def test_pretraining_text_has_no_template() -> None:
    assert not any("#" in text or "Instruction" in text or "Response" in text for text in some_text())


@pytest.mark.parametrize(
    ("side", "path"), [(0, demo_train_path()), (1, demo_held_out_path())], ids=["train", "held-out"]
)
def test_shipped_rows_are_what_the_generator_writes(side: int, path: Path, tmp_path: Path) -> None:
    write_rows(tmp_path / "rows.jsonl", make_tasks()[side])
    assert path.read_bytes() == (tmp_path / "rows.jsonl").read_bytes()
    assert set(json.loads(path.read_text(encoding="utf-8").splitlines()[0])) == {"instruction", "input", "output"}


@pytest.mark.parametrize(
    "text",
    [
        "Anna lives in Foxton.",
        "安娜爱吃馄饨。",
        "two  spaces,\ttabs\n\nand lines\n",
        " a space in front",
        "🌱 grüße, naïve, Привет, ก็",
        "龘靐齉爩",
    ],
)
def test_tokenizer_gives_back_what_it_was_given(tokenizer: PreTrainedTokenizerBase, text: str) -> None:
    ids = tokenizer.encode(text)
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.unk_token_id not in ids
    assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_tokenizer_knows_the_world(tokenizer: PreTrainedTokenizerBase) -> None:
    for text in some_text():
        ids = tokenizer.encode(text)
        assert tokenizer.unk_token_id not in ids
        assert tokenizer.decode(ids, skip_special_tokens=True) == text


def test_rare_chinese_comes_as_bytes(tokenizer: PreTrainedTokenizerBase) -> None:
    tokens = tokenizer.tokenize("馄饨")
    assert tokens == ["▁", *(f"<0x{byte:02X}>" for byte in "馄饨".encode())]
    chinese = [task.output for task in make_tasks()[0] if not task.output.isascii()]
    in_bytes = [answer for answer in chinese if any(token.startswith("<0x") for token in tokenizer.tokenize(answer))]
    assert 0.02 <= len(in_bytes) / len(chinese) <= 0.2


def test_model_is_a_small_llama(tokenizer: PreTrainedTokenizerBase) -> None:
    assert (seedling_path() / "model.safetensors").stat().st_size <= LARGEST_MODEL
    model = LlamaForCausalLM.from_pretrained(seedling_path(), dtype=torch.float32)
    assert model.config.vocab_size == len(tokenizer)
    shapes = model.model.layers[0].self_attn
    assert shapes.k_proj.out_features < shapes.q_proj.out_features
    text = some_text(1)[0]
    ids = torch.tensor([tokenizer.encode(text)])
    with torch.no_grad():
        loss = model(input_ids=ids, labels=ids).loss
    assert loss < 2.0  # nats a token; log(2048) = 7.6 is what a model that was never grown has
