import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.data import Template, encode_conversation, load_template, template_of
from graft.data.template import AlpacaTemplate
from graft.errors import DataError
from graft.records import Conversation, Message, Piece, Source, ToolCall
from tests.data.characters import Characters

FORMS = {"prompt_input": "Q {instruction} ({input}) A ", "prompt_no_input": "Q {instruction} A "}
TEMPLATE = template_of(FORMS, "forms")


def asked(content: str, context: str = "") -> Message:
    return Message("user", content, context=context)


def prompt(template: Template, message: Message) -> str:
    (piece,) = template.prompt([message], (), Characters())
    return piece.text


def test_the_shipped_template_is_alpacas_to_the_letter() -> None:
    # Adapters that others trained with this template answer to these words and no others.
    template = load_template("alpaca")
    assert prompt(template, asked("Name a fish.")) == (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nName a fish.\n\n### Response:\n"
    )
    assert prompt(template, asked("Add.", "1 + 2")) == (
        "Below is an instruction that describes a task, paired with an input that provides further context. "
        "Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nAdd.\n\n### Input:\n1 + 2\n\n### Response:\n"
    )


def test_a_context_of_spaces_is_none() -> None:
    assert prompt(TEMPLATE, asked("a", " \n")) == "Q a A "
    assert prompt(TEMPLATE, asked("a", " b")) == "Q a ( b) A "


@given(st.text(), st.text())
def test_what_people_write_stays_text(instruction: str, context: str) -> None:
    expected = f"Q {instruction} ({context}) A " if context.strip() else f"Q {instruction} A "
    assert prompt(TEMPLATE, asked(instruction, context)) == expected


@pytest.mark.parametrize("text", ["{input}", "{instruction}", "{", "}{", "{0}", "{{x}}", "\\1 \\g<1>", "%s"])
def test_braces_and_field_names_in_what_people_write_stay_text(text: str) -> None:
    assert prompt(TEMPLATE, asked(text, "context")) == f"Q {text} (context) A "
    assert prompt(TEMPLATE, asked("a", text)) == f"Q a ({text}) A "


def test_braces_of_the_template_itself_stay_text() -> None:
    template = template_of(FORMS | {"prompt_no_input": '{"q": {instruction}} {other}'}, "forms")
    assert prompt(template, asked("a")) == '{"q": a} {other}'


def test_each_answer_is_a_piece_of_its_own_that_ends_its_turn() -> None:
    messages = (
        asked("a"),
        Message("assistant", "b", trained=False),
        asked("c", "d"),
        Message("assistant", "{input}", trained=True),
    )
    assert TEMPLATE.render(Conversation(messages, Source("x", 1)), Characters()) == [
        Piece("Q a A ", trained=None),
        Piece("b", trained=False, ends_turn=True),
        Piece("Q c (d) A ", trained=None),
        Piece("{input}", trained=True, ends_turn=True),
    ]


def test_a_template_comes_back_from_its_content() -> None:
    template = AlpacaTemplate("described", "{instruction} {input}", "{instruction}", "###")
    stored = json.loads(json.dumps(template.content()))
    assert template_of(stored, "stored") == template


def test_a_file_of_ones_own_is_used(tmp_path: Path) -> None:
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(FORMS | {"unknown": 3}), encoding="utf-8-sig")
    assert load_template(str(file)) == TEMPLATE


def test_a_template_that_is_not_there_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(DataError) as caught:
        load_template("alpacca")
    assert "`alpacca`" in caught.value.what
    assert "did you mean `alpaca`?" in caught.value.fix
    for name in (str(tmp_path), str(tmp_path / "none.json"), "", "Below is an instruction: {instruction}\n" * 20):
        with pytest.raises(DataError, match="there is no template"):
            load_template(name)


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"{", "not JSON"),
        (b"", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"\xff", "cannot be read"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_broken_file_is_refused_by_name(tmp_path: Path, content: bytes, said: str) -> None:
    file = tmp_path / "mine.json"
    file.write_bytes(content)
    with pytest.raises(DataError) as caught:
        load_template(str(file))
    assert str(file) in caught.value.what
    assert said in caught.value.what


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"prompt_input": None}, "prompt_input"),
        ({"prompt_input": "{input}"}, "prompt_input"),
        ({"prompt_input": "{instruction}"}, "prompt_input"),
        ({"prompt_no_input": 3}, "prompt_no_input"),
        ({"prompt_no_input": "no field"}, "prompt_no_input"),
    ],
)
def test_a_template_that_would_lose_what_people_write_is_refused(change: dict[str, Any], key: str) -> None:
    with pytest.raises(DataError) as caught:
        template_of(FORMS | change, "mine")
    assert "mine" in caught.value.what
    assert f"`{key}`" in caught.value.what


def test_a_system_message_alone_is_not_lost() -> None:
    alone = Conversation((Message("system", "Be brief."),), Source("rows.json", 1))
    sample = encode_conversation(alone, load_template("alpaca"), Characters(bos_id=None))
    assert Characters().decode(sample.ids) == "Be brief."
    assert not any(sample.trained)


def test_what_stands_beside_words_is_lost_in_no_role() -> None:
    said = [Message(role, role, context="beside") for role in ("system", "user", "assistant", "tool")]
    said[2] = replace(said[2], tool_calls=(ToolCall("look", {}),))
    form = template_of({"prompt_input": "{instruction}|{input}>", "prompt_no_input": "{instruction}{input}>"}, "mine")
    asked, answer, told = form.render(Conversation(tuple(said), Source("x", 1)), Characters())
    assert asked.text == "system\n\nbeside\n\nuser|beside>"
    assert answer.text.startswith("assistant\n\nbeside\n<tool_call>")
    assert told.text == "<tool_response>\ntool\n\nbeside\n</tool_response>>"
