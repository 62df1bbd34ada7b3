from typing import Any

import pytest

from graft import data
from graft.data import FORMATS
from graft.errors import DataError
from graft.records import Conversation, Message, Row, Source


def rows(*fields: dict[str, Any]) -> list[Row]:
    return [Row(Source("rows.json", line), content) for line, content in enumerate(fields, start=10)]


def read_conversations(given: list[Row], name: str = "auto", **options: Any) -> list[Conversation]:
    return list(data.read_conversations(given, name, **options))


GOOD = {"instruction": "Name a fish.", "input": "", "output": "Cod."}


@pytest.mark.parametrize("name", ["auto", "alpaca"])
def test_alpaca_rows_become_a_question_and_a_trained_answer(name: str) -> None:
    (found,) = read_conversations(rows({"instruction": "Add.", "input": "1 + 2", "output": "3", "id": 7}), name)
    assert found == Conversation(
        (Message("user", "Add.", context="1 + 2"), Message("assistant", "3", trained=True)),
        Source("rows.json", 10),
    )


@pytest.mark.parametrize("extra", [{}, {"input": ""}, {"input": None}])
def test_a_missing_an_empty_and_a_null_input_mean_the_same(extra: dict[str, Any]) -> None:
    (found,) = read_conversations(rows({"instruction": " Hi ", "output": "鱼\n"} | extra))
    assert found.messages[0] == Message("user", " Hi ")
    assert found.messages[1].content == "鱼\n"  # texts are taken as they are


@pytest.mark.parametrize(
    ("fields", "key", "said"),
    [
        ({"instruction": "a"}, "output", "missing"),
        ({"output": "a"}, "instruction", "missing"),
        (GOOD | {"output": ""}, "output", "empty"),
        (GOOD | {"output": " \n\t"}, "output", "empty"),
        (GOOD | {"instruction": ""}, "instruction", "empty"),
        (GOOD | {"output": 3}, "output", "int"),
        (GOOD | {"output": None}, "output", "NoneType"),
        (GOOD | {"instruction": ["a"]}, "instruction", "list"),
        (GOOD | {"input": 0}, "input", "int"),
        (GOOD | {"input": {}}, "input", "dict"),
        (GOOD | {"output": "a\ud83d"}, "output", "surrogate"),
        (GOOD | {"input": "\udc00"}, "input", "surrogate"),
    ],
)
@pytest.mark.parametrize("name", ["auto", "alpaca"])
def test_a_faulty_row_is_named_with_its_line_and_key(fields: dict[str, Any], key: str, said: str, name: str) -> None:
    with pytest.raises(DataError) as caught:
        read_conversations(rows(GOOD, fields), name)
    assert caught.value.what.startswith("rows.json:11: ")
    assert f"`{key}`" in caught.value.what
    assert said in caught.value.what
    str(caught.value).encode()  # can be shown


def test_all_faulty_rows_are_counted_and_the_first_are_shown() -> None:
    with pytest.raises(DataError) as caught:
        read_conversations(rows(GOOD, *[GOOD | {"output": ""}] * 12, GOOD))
    assert [f"rows.json:{line}:" in caught.value.what for line in range(10, 24)] == [False] + [True] * 5 + [False] * 8
    assert "7 more" in caught.value.what


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(DataError) as caught:
        read_conversations(rows(GOOD), "alpca")
    assert "`alpca`" in caught.value.what
    assert "did you mean `alpaca`?" in caught.value.fix
    with pytest.raises(DataError) as caught:
        read_conversations(rows(GOOD), "zzz")
    assert all(name in caught.value.fix for name in ("auto", *FORMATS))


def test_rows_of_no_known_format_are_refused_with_the_keys_found() -> None:
    with pytest.raises(DataError) as caught:
        read_conversations(rows({"question": "a", "answer": "b"}))
    assert caught.value.what.startswith("rows.json:10: ")
    assert "question, answer" in caught.value.what
    assert "instruction" in caught.value.fix
    with pytest.raises(DataError, match="none"):
        read_conversations(rows({}))


def test_a_key_missing_in_the_first_row_is_named_with_what_is_there() -> None:
    with pytest.raises(DataError, match=r"rows.json:10: the key `output` is missing \(keys found: instruction, answer"):
        read_conversations(rows({"instruction": "a", "answer": "b"}))
