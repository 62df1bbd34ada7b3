"""Conversations -> the fields of a row: one function a format, registered by name. What a format has no place for is
refused, so a row that is written reads back as what it was; only the ids of calls are left out where calls and answers
stand in order, which tells them apart as well."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from graft.data.calls import as_json
from graft.data.formats.pairs import SUMMARIZE
from graft.data.formats.recognise import WEIGHT
from graft.data.words import words_of
from graft.errors import RowFault
from graft.records import Conversation, Message, ToolCall

Write = Callable[[Conversation], dict[str, Any]]


def write_fields(conversation: Conversation, format_name: str, *, join: bool = False) -> dict[str, Any]:
    """The fields of a row of this format that say what `conversation` does, with the roles that models are trained on
    by default.

    Args:
        join: write what a message refers to (Alpaca's `input`) below its words, as chat templates do, where the
            format has no place for it.

    Raises:
        RowFault: the format has no place for something in it.
    """
    write = WRITERS[format_name]
    try:
        fields = write(conversation)
    except RowFault:
        if not join:
            raise
        joined = tuple(replace(m, content=words_of(m), context="") for m in conversation.messages)
        fields = write(replace(conversation, messages=joined))
    return fields if conversation.weight == 1 else {**fields, WEIGHT: conversation.weight}


def _pair(ask: str, answer: str, *, context: str = "") -> Write:
    def write(conversation: Conversation) -> dict[str, Any]:
        _refuse_tools(conversation)
        messages = list(conversation.messages)
        system = messages.pop(0).content if messages[0].role == "system" else ""
        if [m.role for m in messages] != ["user", "assistant"] * (len(messages) // 2) or not messages:
            raise RowFault("it has room for questions and their answers, in turns")
        *earlier, question, answered = messages
        _refuse_marks(conversation)
        _refuse_context([*earlier, *([] if context else [question])])
        fields: dict[str, Any] = {"system": system} if system else {}
        if earlier:
            fields["history"] = [[earlier[n].content, earlier[n + 1].content] for n in range(0, len(earlier), 2)]
        material = {context: question.context} if context else {}
        return {**fields, ask: question.content, **material, answer: answered.content}

    return write


def _samsum(conversation: Conversation) -> dict[str, Any]:
    _refuse_tools(conversation)
    _refuse_marks(conversation)
    roles = [message.role for message in conversation.messages]
    question, *rest = conversation.messages
    if roles != ["user", "assistant"] or question.content != SUMMARIZE or not question.context.strip():
        raise RowFault("it has room for a dialogue and its summary")
    return {"dialogue": question.context, "summary": rest[0].content}


def _text(conversation: Conversation) -> dict[str, Any]:
    document, *rest = conversation.messages
    if rest or document.role != "text":
        raise RowFault("it has room for a document, and this is a conversation")
    _refuse_tools(conversation)
    if document.trained is not True:
        raise RowFault("it has no room for a mark of what is learned")
    return {"text": document.content}


def _messages(conversation: Conversation) -> dict[str, Any]:
    _refuse_context(conversation.messages)
    written = []
    for message in conversation.messages:
        entry: dict[str, Any] = {"role": _spoken(message), "content": message.content}
        if message.tool_calls:
            entry["tool_calls"] = [_openai_call(call) for call in message.tool_calls]
        if message.call_id:
            entry["tool_call_id"] = message.call_id
        written.append(entry | _loss(message))
    tools = [{"type": "function", "function": dict(tool)} for tool in conversation.tools]
    return {"messages": written, **({"tools": tools} if tools else {})}


def _openai_call(call: ToolCall) -> dict[str, Any]:
    """OpenAI's arguments are a text that holds JSON."""
    named = {"id": call.id} if call.id else {}
    function = {"name": call.name, "arguments": as_json(dict(call.arguments))}
    return {**named, "type": "function", "function": function}


def _sharegpt(conversation: Conversation) -> dict[str, Any]:
    _refuse_context(conversation.messages)
    _refuse_disorder(conversation.messages)
    names = {"system": "system", "user": "human", "assistant": "gpt", "tool": "observation"}
    written = []
    for message in conversation.messages:
        entry = {"from": names[_spoken(message)], "value": message.content}
        if message.tool_calls:
            _refuse_words_with_calls(message)
            calls = [_plain_call(call) for call in message.tool_calls]
            entry = {"from": "function_call", "value": as_json(calls[0] if len(calls) == 1 else calls)}
        written.append(entry | _loss(message))
    tools = [dict(tool) for tool in conversation.tools]
    return {"conversations": written, **({"tools": as_json(tools)} if tools else {})}


def _chatglm(conversation: Conversation) -> dict[str, Any]:
    """Its `tool` is one call together with what the tool answered, which is not learned."""
    _refuse_context(conversation.messages)
    _refuse_disorder(conversation.messages)
    tools = [dict(tool) for tool in conversation.tools]
    return {"conversations": list(_chatglm_entries(conversation.messages)), **({"tools": tools} if tools else {})}


def _chatglm_entries(messages: Sequence[Message]) -> Iterator[dict[str, Any]]:
    waiting = iter(messages)
    for message in waiting:
        if not message.tool_calls:
            if message.role == "tool":
                raise RowFault("it has room for one answer to each call")
            yield {"role": _spoken(message), "content": message.content, **_loss(message)}
            continue
        _refuse_words_with_calls(message)
        answer = next(waiting, None)
        if len(message.tool_calls) > 1 or answer is None or answer.role != "tool":
            raise RowFault("it has room for one call at a time, together with what the tool answers")
        if answer.trained:
            raise RowFault("it has no room for a tool's answer that is learned")
        call = message.tool_calls[0]
        entry = {"role": "tool", "name": call.name, "parameters": dict(call.arguments), "observation": answer.content}
        yield entry | _loss(message)


WRITERS: dict[str, Write] = {
    "alpaca": _pair("instruction", "output", context="input"),
    "dolly": _pair("instruction", "response", context="context"),
    "prompt-response": _pair("prompt", "response"),
    "prompt-completion": _pair("prompt", "completion"),
    "samsum": _samsum,
    "input-target": _pair("input", "target"),
    "text": _text,
    "messages": _messages,
    "sharegpt": _sharegpt,
    "chatglm": _chatglm,
}


def _spoken(message: Message) -> str:
    if message.role == "text":
        raise RowFault("it has room for conversations, and this is a document")
    return message.role


def _loss(message: Message) -> dict[str, bool]:
    """The message's own mark, where it is not what its role has by default."""
    if message.trained is (True if message.role == "assistant" else None):
        return {}
    if message.trained is None:
        raise RowFault("it has no mark for an answer that is neither learned nor left out")
    return {"loss": message.trained}


def _plain_call(call: ToolCall) -> Mapping[str, Any]:
    return {"name": call.name, "arguments": dict(call.arguments)}


def _refuse_tools(conversation: Conversation) -> None:
    if conversation.tools or any(m.tool_calls or m.role == "tool" for m in conversation.messages):
        raise RowFault("it has no room for tools")


def _refuse_marks(conversation: Conversation) -> None:
    for number, message in enumerate(conversation.messages, start=1):
        if message.trained is not (True if message.role == "assistant" else None):
            raise RowFault(f"it has no room for the mark of message {number}, which says what is learned")


def _refuse_context(messages: Sequence[Message]) -> None:
    if any(message.context for message in messages):
        raise RowFault("it has no room for an input beside the instruction")


def _refuse_words_with_calls(message: Message) -> None:
    if message.content:
        raise RowFault("it has no room for words beside a call")


def _refuse_disorder(messages: Sequence[Message]) -> None:
    """Answers are told to calls by their order alone."""
    open_ids: list[str] = []
    for message in messages:
        if message.tool_calls:
            open_ids = [call.id for call in message.tool_calls]
        elif message.role == "tool":
            expected = open_ids.pop(0) if open_ids else ""
            if message.call_id not in ("", expected):
                raise RowFault("it has no room for a tool's answer that does not stand in the order of the calls")
