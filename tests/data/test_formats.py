import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft import data
from graft.data import FORMATS
from graft.errors import DataError
from graft.records import Conversation, Message, Row, Source, ToolCall


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


# Every format, with what it must give.

USER, ANSWER = Message("user", "q"), Message("assistant", "a", trained=True)
CALL = ToolCall("look", {"at": "鱼"})
TOOL = {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}}
CALLING = (
    USER,
    Message("assistant", "", trained=True, tool_calls=(CALL,)),
    Message("tool", "cod"),
    ANSWER,
)
EACH: dict[str, tuple[dict[str, Any], tuple[Message, ...]]] = {
    "alpaca": ({"instruction": "q", "input": "", "output": "a"}, (USER, ANSWER)),
    "dolly": (
        {"instruction": "q", "context": "c", "response": "a", "category": "qa"},
        (replace(USER, context="c"), ANSWER),
    ),
    "prompt-response": ({"prompt": "q", "response": "a"}, (USER, ANSWER)),
    "prompt-completion": ({"prompt": "q", "completion": "a"}, (USER, ANSWER)),
    "samsum": (
        {"id": "1", "dialogue": "A: q", "summary": "a"},
        (Message("user", "Summarize this dialog:", context="A: q"), ANSWER),
    ),
    "input-target": ({"input": "q", "target": "a"}, (USER, ANSWER)),
    "text": ({"text": "Once."}, (Message("text", "Once.", trained=True),)),
    "messages": (
        {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        (USER, ANSWER),
    ),
    "sharegpt": (
        {"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]},
        (USER, ANSWER),
    ),
    "chatglm": (
        {"conversations": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]},
        (USER, ANSWER),
    ),
}


@pytest.mark.parametrize("name", EACH)
def test_every_format_is_recognised_and_the_reason_is_said(name: str) -> None:
    fields, messages = EACH[name]
    said: list[str] = []
    (found,) = read_conversations(rows(fields), say=said.append)
    assert found == Conversation(messages, Source("rows.json", 10))
    (note,) = said
    assert note.startswith(f"rows.json is read as {name}, as its first row has ")
    assert all(key in note for key in FORMATS[name].required)
    assert read_conversations(rows(fields), name) == [found]


def test_every_format_is_tested() -> None:
    assert EACH.keys() == FORMATS.keys()


def test_keys_that_are_not_read_are_named() -> None:
    said: list[str] = []
    read_conversations(rows(GOOD | {"id": 7, "source": "x"}), say=said.append)
    assert said[0].endswith("; not read: id, source")


def test_files_of_several_formats_under_one_name_are_told_how_to_be_named() -> None:
    other = {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"}]}
    named = [Row(Source(f"{name}.jsonl", 1), fields) for name, fields in (("a", GOOD), ("b", GOOD), ("c", other))]
    with pytest.raises(DataError) as caught:
        read_conversations(named)
    assert caught.value.what == "c.jsonl begins with a row of the format messages, and a.jsonl is alpaca"
    assert "--set 'data.path=[ONE, OTHER]'" in caught.value.fix
    odd = [*named[:2], Row(Source("c.jsonl", 1), {"no": "format"}), Row(Source("c.jsonl", 2), GOOD)]
    with pytest.raises(DataError, match=r"c.jsonl:1: the key `instruction` is missing"):
        read_conversations(odd)


def test_keys_of_two_formats_ask_for_the_format() -> None:
    with pytest.raises(DataError) as caught:
        read_conversations(rows(GOOD | {"text": "rendered"}))
    assert "alpaca (instruction, output) and text (text)" in caught.value.what
    assert "--format alpaca or --format text" in caught.value.fix
    assert read_conversations(rows(GOOD | {"text": "rendered"}), "alpaca")
    with pytest.raises(DataError, match="what they hold is not"):
        read_conversations(rows({"conversations": [{"speaker": "a"}]}))


OPENAI_CALL = {"id": "7", "type": "function", "function": {"name": "look", "arguments": '{"at": "鱼"}'}}
TOOL_ROWS = {
    "openai": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "q"}]},
            {"role": "assistant", "content": None, "tool_calls": [OPENAI_CALL]},
            {"role": "tool", "content": "cod", "tool_call_id": "7"},
            {"role": "assistant", "content": "a", "tool_calls": None},
        ],
        "tools": [{"type": "function", "function": TOOL}],
    },
    "functions": {
        "messages": [
            {"role": "user", "content": "q"},
            {"role": "assistant", "content": None, "function_call": {"name": "look", "arguments": '{"at": "鱼"}'}},
            {"role": "function", "name": "look", "content": "cod"},
            {"role": "assistant", "content": "a"},
        ],
        "functions": [TOOL],
    },
    "sharegpt": {
        "conversations": [
            {"from": "human", "value": "q"},
            {"from": "function_call", "value": '{"name": "look", "arguments": {"at": "鱼"}}'},
            {"from": "observation", "value": "cod"},
            {"from": "gpt", "value": "a"},
        ],
        "tools": json.dumps([TOOL]),
    },
    "chatglm": {
        "tools": [TOOL],
        "conversations": [
            {"role": "user", "content": "q"},
            {"role": "tool", "name": "look", "parameters": {"at": "鱼"}, "observation": "cod"},
            {"role": "assistant", "content": "a"},
        ],
    },
    "chatglm written out": {
        "tools": json.dumps([TOOL]),
        "conversations": json.dumps(
            [
                {"role": "user", "content": "q"},
                {"role": "assistant", "metadata": "look", "content": "```python\ntool_call(at='鱼')\n```"},
                {"role": "observation", "content": "cod", "loss": False},
                {"role": "assistant", "content": "a"},
            ]
        ),
    },
}


@pytest.mark.parametrize("name", TOOL_ROWS)
def test_calls_and_what_tools_answer_mean_the_same_in_every_format(name: str) -> None:
    (found,) = read_conversations(rows(TOOL_ROWS[name]))
    assert found.tools == (TOOL,)
    plain = [
        replace(message, call_id="", tool_calls=tuple(replace(call, id="") for call in message.tool_calls))
        for message in found.messages
    ]
    unmarked = [replace(message, trained=message.trained or None) for message in plain]
    assert unmarked == list(CALLING)


def test_a_tools_answer_keeps_the_id_of_its_call() -> None:
    (found,) = read_conversations(rows(TOOL_ROWS["openai"]))
    assert found.messages[1].tool_calls[0].id == found.messages[2].call_id == "7"


# What is learned.


def marks(conversation: Conversation) -> list[bool | None]:
    return [message.trained for message in conversation.messages]


def test_chatglms_rule_of_loss() -> None:
    said = [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "q"},
        {"role": "tool", "name": "look", "parameters": {}, "observation": "cod"},
        {"role": "assistant", "content": "a", "loss": False},
        {"role": "user", "content": "q", "loss": True},
        {"role": "tool", "name": "look", "parameters": {}, "observation": "eel", "loss": False},
        {"role": "observation", "content": "pike"},
        {"role": "assistant", "content": "b"},
    ]
    (found,) = read_conversations(rows({"conversations": said}))
    assert marks(found) == [None, None, True, False, False, True, False, False, True, True]


@pytest.mark.parametrize("own", [{"loss": False}, {"weight": 0}])
def test_a_messages_own_mark_wins(own: dict[str, Any]) -> None:
    said = [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a"} | own]
    (found,) = read_conversations(rows({"messages": said}), train_on=["assistant", "user"])
    assert marks(found) == [True, False]


def test_whose_words_are_learned_can_be_chosen() -> None:
    fields = TOOL_ROWS["openai"]
    (found,) = read_conversations(rows(fields), train_on=["user", "tool"])
    assert marks(found) == [True, None, True, None]
    (document,) = read_conversations(rows({"text": "Once."}), train_on=[])
    assert marks(document) == [True], "there is nothing else in it"


@pytest.mark.parametrize(("given", "weight"), [(2, 2.0), (0.5, 0.5), ("0.25", 0.25), (None, 1.0), ("", 1.0)])
def test_a_row_has_its_weight(given: object, weight: float) -> None:
    (found,) = read_conversations(rows(GOOD | {"weight": given}))
    assert found.weight == weight


def test_earlier_turns_and_system_messages_are_not_lost() -> None:
    (found,) = read_conversations(rows(GOOD | {"system": "s", "history": [["q", "a"]]}))
    assert [(m.role, m.content) for m in found.messages] == [
        ("system", "s"),
        ("user", "q"),
        ("assistant", "a"),
        ("user", "Name a fish."),
        ("assistant", "Cod."),
    ]


def say(*said: tuple[str, object], **more: object) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in said], **more}


@pytest.mark.parametrize(
    ("fields", "fault"),
    [
        (say(("user", "q"), ("system", "s")), "message 2 (system) comes late"),
        (say(("system", "s"), ("system", "s"), ("user", "q")), "message 2 (system) comes late"),
        (say(("user", "q"), ("assistant", " ")), "message 2: `content` is empty"),
        (say(("user", "q"), ("assistant", None)), "message 2: `content` is NoneType"),
        (say(("user", "q"), ("bot", "a")), "message 2: the role `bot` is none of system, "),
        (say(("user", "q"), ("tool", "a")), "message 2 (tool) answers no call"),
        (say(("user", "q\ud800")), "message 1: `content` holds half a surrogate pair"),
        (say(("user", [{"type": "image_url"}])), "message 1: `content` has a part of type image_url"),
        ({"messages": []}, "`messages` is empty"),
        ({"messages": ["q"]}, "message 1 is str"),
        ({"messages": "["}, "`messages` is a text, and not JSON"),
        ({"messages": 3}, "`messages` is int, not a list"),
        (say(("user", "q"), tools=[{"description": "x"}]), "`tools` is wrong: number 1"),
        (say(("user", "q"), tools=[{"name": "\udc00"}]), "`tools` holds half a surrogate pair"),
        (say(("user", "q"), tools="{"), "`tools` is a text, and not JSON"),
        (say(("user", "q"), weight=0), "the weight 0 is not above 0"),
        (say(("user", "q"), weight=float("inf")), "the weight inf is not above 0"),
        (say(("user", "q"), weight=10**400), "`weight` is 1"),
        (say(("user", "q"), weight="heavy"), "`weight` is 'heavy', not a number above 0"),
        ({"messages": [{"role": "user", "content": "q", "loss": "no"}]}, "message 1: the mark 'no' is neither"),
        (
            {"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "tool_calls": [{"name": ""}]}]},
            "message 2: a call needs a `name`",
        ),
        (
            {"conversations": [{"from": "human", "value": "q"}, {"from": "function_call", "value": "look()"}]},
            "message 2: the call is not JSON",
        ),
        (
            {"conversations": [{"role": "assistant", "metadata": "a", "content": "```\nf(x=g())\n```"}]},
            "message 1: a call cannot be read",
        ),
        (GOOD | {"history": ["q", "a"]}, "`history` is not a list of pairs"),
        (GOOD | {"history": [["q", ""]]}, "`answer` is empty"),
    ],
)
def test_a_row_that_is_no_conversation_is_named_with_the_message_at_fault(fields: dict[str, Any], fault: str) -> None:
    name = "messages" if "messages" in fields else "auto"
    with pytest.raises(DataError) as caught:
        read_conversations(rows(fields), name)
    assert caught.value.what.startswith(f"rows.json:10: {fault}")
    str(caught.value).encode()


# A format of one's own.


def own(tmp_path: Path, body: str) -> str:
    file = tmp_path / "mine.py"
    file.write_text(body)
    return f"{file}:read"


@pytest.mark.parametrize(
    "given",
    [
        '{"instruction": row["q"], "output": row["a"]}',
        '[{"role": "user", "content": row["q"]}, {"role": "assistant", "content": row["a"]}]',
    ],
)
def test_a_function_of_ones_own_gives_a_known_format(tmp_path: Path, given: str) -> None:
    (found,) = read_conversations(rows({"q": "q", "a": "a"}), own(tmp_path, f"def read(row):\n    return {given}\n"))
    assert found.messages == (USER, ANSWER)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ("def read(row):\n    return row['x']\n", "failed: KeyError: 'x'"),
        ("def read(row):\n    return 3\n", "gave int, not the fields of a row"),
        ("def read(row):\n    return {'x': 1}\n", "gave the keys x, which fit 0 formats"),
        ("def read(row):\n    return [{'role': 'user'}]\n", "message 1: "),
        ("def read(row):\n    raise SystemExit(7)\n", "rows.json:10: {name} failed: SystemExit: 7"),
        ("import sys\nsys.exit(0)\n", "cannot be imported: SystemExit: 0"),
        ("def other(row): ...\n", "has no function `read`"),
        ("import nothing_like_it\n", "cannot be imported: ModuleNotFoundError"),
        ("def read(:\n", "cannot be imported: SyntaxError"),
    ],
)
def test_a_function_that_fails_is_named(tmp_path: Path, body: str, said: str) -> None:
    name = own(tmp_path, body)
    with pytest.raises(DataError) as caught:
        read_conversations(rows({"q": "q"}), name)
    assert said.format(name=name) in caught.value.what


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"there is no file .*none\.py"):
        read_conversations(rows({"q": "q"}), f"{tmp_path / 'none.py'}:read")


KEYS = st.sampled_from([key for layout in FORMATS.values() for key in (*layout.required, *layout.optional)]) | (
    st.sampled_from(
        ["role", "content", "from", "value", "tool_calls", "function", "name", "arguments", "loss", "weight"]
    )
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS | st.text(max_size=3), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(KEYS, JSON, max_size=5), st.sampled_from(["auto", *FORMATS]))
def test_no_row_gives_another_error(fields: dict[str, Any], name: str) -> None:
    with suppress(DataError):
        read_conversations(rows(fields), name)
