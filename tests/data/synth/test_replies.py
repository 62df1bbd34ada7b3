"""What teachers write, in all the ways in which they write it."""

import json
from collections.abc import Callable
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.data.synth.replies import Example, ReplyFault, Said, examples, listed, said_in, usage_in, yes_or_no
from tests.data.synth.server import completion


def whole(text: str) -> Said:
    return Said(text, whole=True)


LISTS = {
    "plain": "9. Name three fish.\n10. Sing a song.",
    "words before and after": "Sure! Here are more tasks:\n\n9. Name three fish.\n10. Sing a song.\n\nLet me know!",
    "brackets": "9) Name three fish.\n10) Sing a song.",
    "brackets on both sides": "(9) Name three fish.\n(10) Sing a song.",
    "bold numbers": "**9.** Name three fish.\n**10.** Sing a song.",
    "bold items": "9. **Name three fish.**\n10. **Sing a song.**",
    "named": "Task 9: Name three fish.\nTask 10: Sing a song.",
    "headings": "### 9. Name three fish.\n### 10. Sing a song.",
    "quotes": '9. "Name three fish."\n10. "Sing a song."',
    "lines between": "9. Name three fish.\n\n\n10. Sing a song.\n",
    "broken lines": "9. Name three\n   fish.\n10. Sing\na song.",
    "bullets": "- Name three fish.\n- Sing a song.",
    "carriage returns": "9. Name three fish.\r\n10. Sing a song.\r\n",
}


@pytest.mark.parametrize("text", LISTS.values(), ids=LISTS)
def test_lists(text: str) -> None:
    assert listed(whole(text)) == ["Name three fish.", "Sing a song."]


@pytest.mark.parametrize(
    "marks", [("9. ", "10. "), ("9、", "10、"), ("９．", "１０．"), ("任务9：", "任务10："), ("（9）", "（10）")]
)
def test_chinese_lists(marks: tuple[str, str]) -> None:
    assert listed(whole(f"{marks[0]}“写一首诗。”\n{marks[1]}说出三种鱼。")) == ["写一首诗。", "说出三种鱼。"]


def test_a_list_that_was_cut_loses_its_last_item() -> None:
    assert listed(Said("9. Name three fish.\n10. Sing a so", whole=False)) == ["Name three fish."]


def test_no_list_is_a_fault() -> None:
    with pytest.raises(ReplyFault) as error:
        listed(whole("I cannot do that."))
    assert error.value.reason == "no-list"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("Yes", True),
        ("yes.", True),
        ("**No**", False),
        ("Answer: No, it is not.", False),
        ("It is a classification task.", True),
        ("This is not a classification task.", False),
        ("是", True),
        ("是的。", True),
        ("否", False),
        ("不是分类任务", False),
        ("答案：否", False),
        ("是否为分类任务：否", False),
        ("这是一个分类任务。", True),
        ("Not classification.", False),
    ],
)
def test_yes_or_no(text: str, kind: bool) -> None:
    assert yes_or_no(whole(text)) is kind


def test_neither_is_a_fault() -> None:
    with pytest.raises(ReplyFault) as error:
        yes_or_no(whole("Perhaps"))
    assert error.value.reason == "neither-yes-nor-no"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Input: none\nOutput: Cod.", [("", "Cod.")]),
        ("Output: Cod.", [("", "Cod.")]),
        ("Input: N/A\nOutput: Cod,\neel.\n", [("", "Cod,\neel.")]),
        ("Input: a\nOutput: b\n\nInput: c\nOutput: d", [("a", "b"), ("c", "d")]),
        ("Example 1\nInput: a\nOutput: b\nExample 2:\nInput: c\nOutput: d", [("a", "b"), ("c", "d")]),
        ("**Input:** a\n**Output:** b", [("a", "b")]),
        ("**Input**: a\n**Output**: b", [("a", "b")]),
        ("Input 1: a\nOutput 1: b", [("a", "b")]),
        ("Here you are:\nInput: a\nb\nOutput: c", [("a\nb", "c")]),
        ("Input: a\nInput: b\nOutput: c", [("a", None), ("b", "c")]),
        ("输入：无\n输出：鳕鱼。", [("", "鳕鱼。")]),
        ("示例1：\n输入：甲\n输出：乙\n示例2：\n输入：丙\n输出：丁", [("甲", "乙"), ("丙", "丁")]),
        ("Input: 12\nOutput: The input: of 12 is 13", [("12", "The input: of 12 is 13")]),
    ],
)
def test_examples_with_the_input_first(text: str, expected: list[tuple[str, str | None]]) -> None:
    assert examples(whole(text), output_first=False) == [Example(*pair) for pair in expected]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Class label: good\nInput: a\n\nClass label: bad\nInput: b", [("a", "good"), ("b", "bad")]),
        ("类别：好\n输入：甲\n类别：坏\n输入：乙", [("甲", "好"), ("乙", "坏")]),
        ("Output: good\nInput: a", [("a", "good")]),
    ],
)
def test_examples_with_the_label_first(text: str, expected: list[tuple[str, str]]) -> None:
    assert examples(whole(text), output_first=True) == [Example(*pair) for pair in expected]


def test_an_example_that_was_cut_has_no_output() -> None:
    said = Said("Input: a\nOutput: b\nInput: c\nOutput: d and", whole=False)
    assert examples(said, output_first=False) == [Example("a", "b"), Example("c", None)]
    said = Said("Class label: x\nInput: a\nClass label: y\nInput: b and", whole=False)
    assert examples(said, output_first=True) == [Example("a", "x"), Example("b and", None)]


def test_no_examples_are_a_fault() -> None:
    with pytest.raises(ReplyFault) as error:
        examples(whole("Cod, eel, pike."), output_first=False)
    assert error.value.reason == "no-examples"


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (400, "no", "refused-by-teacher"),
        (200, "<!doctype html><p>Hello", "not-a-completion"),
        (200, '{"choices": [', "not-a-completion"),
        (200, "[" * 100_000, "not-a-completion"),
        (200, "", "not-a-completion"),
        (200, "[]", "not-a-completion"),
        (200, "null", "not-a-completion"),
        (200, '{"choices": []}', "not-a-completion"),
        (200, '{"choices": {"0": 1}}', "not-a-completion"),
        (200, '{"choices": [{"message": {"content": null}}]}', "empty-reply"),
        (200, '{"choices": [{"message": "x"}]}', "empty-reply"),
        (200, completion(" \n").body, "empty-reply"),
        (200, completion("<think>hm").body, "empty-reply"),
        (200, completion("<think>hm</think> ").body, "empty-reply"),
    ],
)
def test_what_is_no_completion_is_a_fault(status: int, body: str, reason: str) -> None:
    with pytest.raises(ReplyFault) as error:
        said_in(status, body)
    assert error.value.reason == reason


def test_the_words_of_a_completion() -> None:
    assert said_in(200, completion("Cod.").body) == Said("Cod.", whole=True)
    assert said_in(200, completion("Cod", finish="length").body) == Said("Cod", whole=False)
    assert said_in(200, completion("<think>1. x</think>\nCod.").body).text.strip() == "Cod."
    assert said_in(200, completion("```text\n1. Cod\n2. Eel\n```").body).text == "1. Cod\n2. Eel"


@pytest.mark.parametrize(
    ("usage", "expected"),
    [
        ({"prompt_tokens": 3, "completion_tokens": 4}, (3, 4)),
        ({"prompt_tokens": 3}, None),
        ({"prompt_tokens": -3, "completion_tokens": 4}, None),
        ({"prompt_tokens": "3", "completion_tokens": True}, None),
        (None, None),
    ],
)
def test_usage(usage: object, expected: object) -> None:
    assert usage_in(200, json.dumps({"usage": usage})) == expected


READERS: dict[str, Callable[[Said], object]] = {
    "list": listed,
    "yes or no": yes_or_no,
    "labels": lambda said: examples(said, output_first=True),
    "inputs": lambda said: examples(said, output_first=False),
    "body": lambda said: said_in(200, said.text),
}
PARTS = st.sampled_from(
    ["1. ", "\n", "Input: ", "Output:", "类别：", "示例 1", "<think>", "</think>", "```", "yes", "**", "x"]
)


@pytest.mark.parametrize("read", READERS.values(), ids=READERS)
@given(st.text(max_size=60) | st.lists(PARTS, max_size=12).map("".join), st.booleans())
def test_whatever_a_teacher_says_is_read_or_is_a_fault(
    read: Callable[[Said], object], text: str, finished: bool
) -> None:
    with suppress(ReplyFault):
        read(Said(text, finished))
