"""The tokens of Llama 2 Chat, as Meta's own code makes them: needs its tokenizer, which is no part of the project."""

import shutil
from pathlib import Path

import pytest
import sentencepiece

from graft.data import encode_conversation, load_template
from graft.model import load_tokenizer
from graft.records import Conversation, Message, Source

TOKENIZER = Path(__file__).parents[2].parent / "shared" / "llama2" / "tokenizer.model"
pytestmark = pytest.mark.skipif(not TOKENIZER.is_file(), reason="needs ../shared/llama2")


def test_the_ids_are_those_that_the_model_was_trained_with(tmp_path: Path) -> None:
    shutil.copy(TOKENIZER, tmp_path)
    tokenizer = load_tokenizer(str(tmp_path))
    reference = sentencepiece.SentencePieceProcessor(str(TOKENIZER))
    turns = [
        ("Name three fish.", "Cod, eel, pike."),
        ("列出三种水果。", "苹果、香蕉和梨。"),
        ("Hi </s> <s>", "  ½ Ωμέγα 🦊\n"),
    ]
    said = [
        message
        for question, answer in turns
        for message in (Message("user", question), Message("assistant", answer, trained=True))
    ]
    conversation = Conversation((Message("system", "Be brief."), *said), Source("rows.json", 1))
    found = encode_conversation(conversation, load_template("llama-2"), tokenizer)
    expected, trained = [], []
    for number, (question, answer) in enumerate(turns):
        system = "<<SYS>>\nBe brief.\n<</SYS>>\n\n" if number == 0 else ""
        prompt = reference.encode(f"[INST] {system}{question} [/INST]")
        whole = reference.encode(f"[INST] {system}{question} [/INST] {answer} ")
        assert whole[: len(prompt)] == prompt
        expected += [1, *whole, 2]
        trained += [False] * (1 + len(prompt)) + [True] * (len(whole) - len(prompt) + 1)
    assert list(found.ids) == expected
    assert list(found.trained) == trained
