"""Every format reads back what was written in it, where it has room; else it says for what it has none."""

import json
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.data import read_rows
from graft.data.formats import FORMATS, read_each
from graft.data.formats.pairs import SUMMARIZE
from graft.data.formats.writers import WRITERS, write_fields
from graft.data.write import write_rows
from graft.errors import RowFault
from graft.records import Conversation, Message, Row, Source, ToolCall

PLACE = Source("rows", 1)
TEXT = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=12).filter(str.strip)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | TEXT,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXT, inner, max_size=2),
    max_leaves=4,
)
CALL = st.builds(ToolCall, TEXT, st.dictionaries(TEXT, VALUE, max_size=2), st.just(""))
TOOL = st.fixed_dictionaries({"name": TEXT, "parameters": st.dictionaries(TEXT, VALUE, max_size=2)})
MARK = st.sampled_from([None, None, True, False])


@st.composite
def conversations(draw: st.DrawFn) -> Conversation:
    """Plain ones, of the kinds that pairs hold, and ones with all that a conversation can have."""
    if draw(st.booleans()) and draw(st.booleans()):
        return Conversation((Message("text", draw(TEXT), True),), PLACE)
    rich = draw(st.booleans())
    messages = [Message("system", draw(TEXT))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages.append(Message("user", draw(TEXT), draw(MARK) if rich else None))
        if rich and draw(st.booleans()):
            calls = tuple(draw(st.lists(CALL, min_size=1, max_size=2)))
            messages.append(Message("assistant", draw(st.just("") | TEXT), True, tool_calls=calls))
            messages += [Message("tool", draw(st.just("") | TEXT), draw(MARK)) for _ in calls]
        messages.append(Message("assistant", draw(TEXT), draw(st.booleans()) if rich else True))
    if draw(st.booleans()):
        asked = max(number for number, message in enumerate(messages) if message.role == "user")
        messages[asked] = replace(messages[asked], context=draw(TEXT))
    if draw(st.booleans()) and len(messages) == 2 and messages[0].context:
        messages[0] = replace(messages[0], content=SUMMARIZE)
    tools = tuple(draw(st.lists(TOOL, max_size=2))) if rich else ()
    return Conversation(tuple(messages), PLACE, tools, draw(st.sampled_from([1.0, 0.5])))


def read_back(fields: dict[str, Any], name: str) -> Conversation:
    ((_, read),) = read_each([Row(PLACE, fields)], name)
    assert isinstance(read, Conversation), read
    return read


def as_chatglm_has_it(conversation: Conversation) -> Conversation:
    """A tool's answer that is not learned: ChatGLM's own layout has one mark for both ways of not learning it."""
    messages = [replace(m, trained=bool(m.trained)) if m.role == "tool" else m for m in conversation.messages]
    return replace(conversation, messages=tuple(messages))


@pytest.mark.parametrize("name", WRITERS)
@given(conversation=conversations())
def test_what_is_written_reads_back_the_same(name: str, conversation: Conversation) -> None:
    if refusal := _refusal(conversation, name):
        assert refusal.startswith("it has ")
        return
    fields = write_fields(conversation, name)
    fields = json.loads(json.dumps(fields))
    assert all(key in fields for key in FORMATS[name].required)
    assert FORMATS[name].fits(fields)
    expected = as_chatglm_has_it(conversation) if name == "chatglm" else conversation
    assert read_back(fields, name) == expected


@pytest.mark.parametrize("suffix", [".jsonl", ".json", ".csv"])
@given(conversation=conversations())
def test_every_kind_of_file_holds_them(suffix: str, conversation: Conversation) -> None:
    names = [name for name in WRITERS if not _refusal(conversation, name)]
    with TemporaryDirectory() as folder:
        for name in names:
            path = Path(folder) / f"{name}{suffix}"
            write_rows(path, [write_fields(conversation, name)])
            (row,) = read_rows(str(path))
            expected = as_chatglm_has_it(conversation) if name == "chatglm" else conversation
            assert replace(read_back(dict(row.fields), name), source=PLACE) == expected


def _refusal(conversation: Conversation, name: str) -> str:
    try:
        write_fields(conversation, name)
    except RowFault as fault:
        return str(fault)
    return ""


PLAIN = Conversation((Message("user", "a"), Message("assistant", "b", True)), PLACE)


def test_every_format_that_is_read_is_written() -> None:
    assert WRITERS.keys() == FORMATS.keys()
    assert [name for name in WRITERS if _refusal(PLAIN, name)] == ["samsum", "text"]


ASKED, ANSWERED = PLAIN.messages
CALLING = Message("assistant", "", True, tool_calls=(ToolCall("f", {}, "c1"), ToolCall("g", {}, "c2")))


@pytest.mark.parametrize(
    ("messages", "names", "why"),
    [
        ((replace(ASKED, context="c"), ANSWERED), "messages sharegpt chatglm prompt-response", "an input beside"),
        ((ASKED, replace(ANSWERED, trained=False)), "alpaca dolly prompt-completion", "the mark of message 2"),
        ((replace(ASKED, trained=False), ANSWERED), "alpaca", "the mark of message 1"),
        ((ASKED, ANSWERED, ASKED), "alpaca", "questions and their answers, in turns"),
        ((ASKED, CALLING), "alpaca input-target text", "has no room for tools|has room for a document"),
        ((ASKED, CALLING), "chatglm", "one call at a time"),
        ((ASKED, replace(CALLING, content="so")), "sharegpt chatglm", "words beside a call"),
        ((ASKED, CALLING, Message("tool", "2", call_id="c2")), "sharegpt chatglm", "in the order of the calls"),
        ((Message("text", "a", True),), "alpaca messages sharegpt chatglm", "room for"),
    ],
)
def test_what_a_format_has_no_room_for_is_refused(messages: tuple[Message, ...], names: str, why: str) -> None:
    for name in names.split():
        assert any(part in _refusal(replace(PLAIN, messages=messages), name) for part in why.split("|")), name


def test_an_input_is_joined_on_request_as_chat_templates_do() -> None:
    asked = replace(PLAIN, messages=(replace(ASKED, context="c"), ANSWERED))
    assert write_fields(asked, "messages", join=True)["messages"][0]["content"] == "a\n\nc"
    assert write_fields(asked, "alpaca", join=True)["input"] == "c", "where there is room it stays apart"


def test_ids_of_calls_are_kept_where_there_is_room_and_left_out_where_order_tells() -> None:
    answers = (Message("tool", "1", call_id="c1"), Message("tool", "2", call_id="c2"))
    called = replace(PLAIN, messages=(ASKED, CALLING, *answers, ANSWERED))
    assert read_back(write_fields(called, "messages"), "messages") == called
    back = read_back(write_fields(called, "sharegpt"), "sharegpt")
    assert [m.call_id for m in back.messages if m.role == "tool"] == ["", ""]
