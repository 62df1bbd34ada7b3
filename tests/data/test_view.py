from dataclasses import replace

import pytest

from graft.data import encode_conversation, load_template
from graft.data.encode import encode_each
from graft.data.view import cells_of
from graft.records import Conversation, Message, Source
from tests.data.checks.subjects import tokenizer

ALPACA = load_template("alpaca")


def conversation(question: str, answer: str) -> Conversation:
    return Conversation((Message("user", question), Message("assistant", answer, True)), Source("f", 1))


@pytest.mark.parametrize(
    "answer", ["Ann lives in Elm.", "她住在榆树镇。饕餮🙂", "a\n\n  b\tc", "lost \ufffd one", "é\u0301 كتاب"]
)
def test_the_cells_are_the_text_and_the_fates_are_the_mask(answer: str) -> None:
    sample = encode_conversation(conversation("Where?", answer), ALPACA, tokenizer())
    cells = cells_of(sample, tokenizer(), tokenizer().decode, cutoff=len(sample))
    assert sum(cell.tokens for cell in cells) == len(sample)
    trained = [cell for cell in cells if cell.fate == "trained"]
    assert sum(cell.tokens for cell in trained) == sample.trained_tokens
    if "\ufffd" not in answer:
        assert "".join(cell.text for cell in trained if not cell.special) == answer
    assert [cell.text for cell in cells if cell.special] == ["<s>", "</s>"]
    assert trained[-1].text == "</s>"


def test_a_character_of_several_tokens_is_one_cell() -> None:
    sample = encode_conversation(conversation("Where?", "饕"), ALPACA, tokenizer())
    (cell,) = [c for c in cells_of(sample, tokenizer(), tokenizer().decode, cutoff=999) if c.text == "饕"]
    assert cell.tokens == 3


def test_what_the_cutoff_takes_is_cut_whatever_it_was() -> None:
    sample = encode_conversation(conversation("Where?", "Ann lives in Elm."), ALPACA, tokenizer())
    cells = cells_of(sample, tokenizer(), tokenizer().decode, cutoff=len(sample) - 3)
    assert sum(cell.tokens for cell in cells if cell.fate == "cut") == 3
    assert cells[-1].special


def test_a_prompt_with_a_share_of_the_loss_is_told_from_an_answer() -> None:
    said = conversation("Where?", "In Elm.")
    ((_, (sample,)),) = encode_each([said], ALPACA, tokenizer(), 0.1)
    cells = cells_of(sample, tokenizer(), tokenizer().decode, cutoff=999)
    assert {cell.fate for cell in cells if cell.text in ("Where", "?")} <= {"partly"}
    assert {cell.fate for cell in cells} == {"context", "partly", "trained"}, "BOS alone is context"
    assert cells_of(replace(sample, shares=None), tokenizer(), tokenizer().decode, cutoff=999)[5].fate == "trained"
