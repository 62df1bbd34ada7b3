from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.data import encode_conversation, load_template
from graft.data.calls import SYNTAXES, Answer, as_json, call_of, marked_call, read_calls
from graft.errors import DataError
from graft.records import Conversation, Message, Source, ToolCall
from tests.data.characters import FIRST, Characters

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(-1e9, 1e9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=5,
)
CALLS = st.builds(
    ToolCall,
    st.from_regex(r"tool_[a-z0-9]{0,8}", fullmatch=True),
    st.dictionaries(st.text(max_size=5) | st.sampled_from(["from", "x", "city"]), VALUES, max_size=3),
)


@given(CALLS)
def test_every_way_of_writing_a_call_reads_back(call: ToolCall) -> None:
    written = {
        "marked": marked_call(call),
        "bare": as_json({"name": call.name, "parameters": call.arguments}),
        "fenced": f"{call.name}\n ```python\ntool_call(**{dict(call.arguments)!r})\n```",
        "listed": f"[{call.name}(**{dict(call.arguments)!r})]",
    }
    assert written.keys() == SYNTAXES.keys()
    for syntax, text in written.items():
        assert read_calls(text, syntax) == Answer("", (call,))


@pytest.mark.parametrize("name", ["alpaca", "chatml", "llama-2", "llama-3", "mistral", "chatglm3"])
@given(CALLS)
def test_what_a_template_writes_reads_back(name: str, call: ToolCall) -> None:
    codec, template = Characters(), load_template(name)
    messages = (Message("user", "q"), Message("assistant", "", trained=True, tool_calls=(call,)))
    sample = encode_conversation(Conversation(messages, Source("x", 1)), template, codec)
    said = [id for id, trained in zip(sample.ids, sample.trained, strict=True) if trained and id >= FIRST]
    (found,) = template.read_answer(codec.decode(said), codec).calls
    assert (found.name, found.arguments) == (call.name, call.arguments)


@pytest.mark.parametrize(
    ("text", "syntax", "answer"),
    [
        ("Let me see.\n" + marked_call(ToolCall("a", {})), "marked", Answer("Let me see.", (ToolCall("a", {}),))),
        (
            marked_call(ToolCall("a", {})) + "\n" + marked_call(ToolCall("b", {"x": 1})),
            "marked",
            Answer("", (ToolCall("a", {}), ToolCall("b", {"x": 1}))),
        ),
        ('<tool_call>{"name": "a"}', "marked", Answer("", (ToolCall("a", {}),))),
        ('[TOOL_CALLS] [{"name": "a", "arguments": {}, "id": "7"}]', "bare", Answer("", (ToolCall("a", {}, "7"),))),
        ('<|python_tag|>{"name": "a", "parameters": "{}"}', "bare", Answer("", (ToolCall("a", {}),))),
        ('[{"name": "a"}, {"name": "b"}]', "bare", Answer("", (ToolCall("a", {}), ToolCall("b", {})))),
        ('{"answer": 3}', "bare", Answer('{"answer": 3}')),
        ("[1, 2]", "bare", Answer("[1, 2]")),
        ("[1, 2]", "listed", Answer("[1, 2]")),
        ("[a(x=1), b.c()]", "listed", Answer("", (ToolCall("a", {"x": 1}), ToolCall("b.c", {})))),
        ("\n 你好", "fenced", Answer("\n 你好")),
        ("```python\nprint(1)\n```", "fenced", Answer("```python\nprint(1)\n```")),
        ("Hello.", "", Answer("Hello.")),
    ],
)
def test_words_and_calls_are_told_apart(text: str, syntax: str, answer: Answer) -> None:
    assert read_calls(text, syntax) == answer


@pytest.mark.parametrize(
    ("text", "syntax"),
    [
        ("<tool_call>\n{'name': 'a'}\n</tool_call>", "marked"),
        ('<tool_call>{"arguments": {}}</tool_call>', "marked"),
        ('<tool_call>{"name": "a", "arguments": [1]}</tool_call>', "marked"),
        ('<tool_call>{"name": "a", "name": "b"}</tool_call>', "marked"),
        ('<tool_call>{"name": "a", "arguments": {"x": NaN}}</tool_call>', "marked"),
        ("<tool_call>" + "[" * 100_000 + "</tool_call>", "marked"),
        ("a\n ```python\ntool_call(x=open('/etc/passwd'))\n```", "fenced"),
        ("a\n ```python\ntool_call(1)\n```", "fenced"),
        ("a\n ```python\n__import__('os').system('true')\n```", "fenced"),
        ("a\n ```python\nimport os\n```", "fenced"),
        ("[a(x=b())]", "listed"),
    ],
)
def test_a_call_that_cannot_be_read_is_an_error_and_is_never_run(text: str, syntax: str) -> None:
    with pytest.raises(DataError, match="a call cannot be read"):
        read_calls(text, syntax)


@given(st.text() | st.text(alphabet="<tool_call>/{}[]\"':name,argments()=`python\n 1", max_size=80))
def test_no_generated_text_gives_another_error(text: str) -> None:
    for syntax in SYNTAXES:
        try:
            answer = read_calls(text, syntax)
        except DataError:
            continue
        assert answer.calls or answer.content == text


@pytest.mark.parametrize(
    "value",
    [
        {"name": "a", "arguments": {"x": 1}},
        {"name": "a", "parameters": {"x": 1}},
        {"name": "a", "arguments": '{"x": 1}'},
        {"id": "", "type": "function", "function": {"name": "a", "arguments": '{"x": 1}'}},
    ],
)
def test_calls_are_read_in_every_shape_that_data_sets_have(value: dict[str, Any]) -> None:
    assert call_of(value) == ToolCall("a", {"x": 1})


@pytest.mark.parametrize("text", ["a" + " " * 10**6, "a\n```python\n" + " " * 10**6, "a\n" + "``` " * 10**5 + "x"])
def test_what_is_nearly_a_fence_takes_no_time(text: str) -> None:
    assert read_calls(text, "fenced") == Answer(text)


def test_a_call_nested_too_deep_is_refused() -> None:
    with pytest.raises(DataError, match="nested too deep"):
        read_calls(f'<tool_call>{{"name": "f", "arguments": {"[" * 500}{"]" * 500}}}</tool_call>', "marked")
