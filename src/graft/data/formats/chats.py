"""Formats whose rows hold messages."""

from collections.abc import Iterator, Mapping
from typing import Any

from graft.data.calls import call_of, parse_json, read_calls
from graft.data.formats.contract import Fields, Format, Learns, Talk, check_json, list_at, text_at
from graft.errors import DataError, FaultKind, RowFault
from graft.records import Message, Role, ToolCall

ROLES: dict[str, Role] = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
    "function_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "ipython": "tool",
}
"""What data sets call the roles. `function_call` is a message of the assistant's that is a call."""


def tools_of(fields: Fields) -> list[Mapping[str, Any]]:
    """The definitions of functions under `tools` (OpenAI's older `functions`), out of their wrapping."""
    listed = list_at(fields, "tools") or list_at(fields, "functions")
    tools = [tool["function"] if isinstance(tool, dict) and "function" in tool else tool for tool in listed]
    for number, tool in enumerate(tools, start=1):
        if not isinstance(tool, dict) or not isinstance(tool.get("name"), str) or not tool["name"].strip():
            raise ValueError(f"`tools` is wrong: number {number} is no object with a `name`")
    check_json(tools, "tools")
    return tools


def _messages(fields: Fields, learns: Learns) -> Talk:
    """OpenAI's layout: `messages` with `role`, `content`, and what tools are called with and answer."""
    read = [_openai(entry, learns) for entry in _entries(fields, "messages")]
    return Talk(read, tools_of(fields))


def _sharegpt(fields: Fields, learns: Learns) -> Talk:
    """`conversations` with `from` and `value`; a function_call's value is the call in JSON."""
    read = []
    if system := text_at(fields, "system", needed=False):
        read.append(learns.message("system", system))
    for number, entry in _entries(fields, "conversations"):
        with _at(number):
            named = text_at(entry, "from")
            role = _role(named)
            value = text_at(entry, "value", needed=role != "tool")
            calls = _calls_in(value) if named == "function_call" else []
            read.append(learns.message(role, "" if calls else value, own=_own(entry), calls=calls))
    return Talk(read, tools_of(fields))


def _chatglm(fields: Fields, learns: Learns) -> Talk:
    """ChatGLM3's: observations are learned unless their `loss` says otherwise; a tool's message is a call, which is
    learned, and an observation, which is not."""
    read: list[Message] = []
    for number, entry in _entries(fields, "conversations"):
        with _at(number):
            named, own = text_at(entry, "role"), _own(entry)
            if named == "tool":
                call = _call({"name": entry.get("name"), "arguments": entry.get("parameters")})
                read.append(learns.message("assistant", "", own=own, calls=[call]))
                read.append(learns.message("tool", text_at(entry, "observation", needed=False), own=False))
            elif _role(named) == "tool":
                seen = text_at(entry, "content", needed=False)
                read.append(learns.message("tool", seen, own=True if own is None else own))
            elif tool := text_at(entry, "metadata", needed=False).strip():
                written = read_calls(f"{tool}\n{text_at(entry, 'content')}", "fenced")
                read.append(learns.message("assistant", written.content, own=own, calls=written.calls))
            else:
                read.append(learns.message(_role(named), text_at(entry, "content"), own=own))
    return Talk(read, tools_of(fields))


def _openai(numbered: tuple[int, Fields], learns: Learns) -> Message:
    number, entry = numbered
    with _at(number):
        role = _role(text_at(entry, "role"))
        calls = [_call(call) for call in list_at(entry, "tool_calls")]
        if legacy := entry.get("function_call"):
            calls.append(_call(legacy))
        content = entry.get("content")
        if isinstance(content, list):
            content = "".join(_part(part) for part in content)
        words = text_at({"content": content}, "content", needed=not calls and role != "tool")
        call_id = text_at(entry, "tool_call_id", needed=False)
        return learns.message(role, words, own=_own(entry), calls=calls, call_id=call_id)


def _entries(fields: Fields, key: str) -> Iterator[tuple[int, Fields]]:
    entries = list_at(fields, key)
    if not entries:
        raise RowFault(f"`{key}` is empty", "empty")
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict):
            raise ValueError(f"message {number} is {type(entry).__name__}, not an object")
        yield number, entry


def _role(name: str) -> Role:
    if name not in ROLES:
        raise RowFault(f"the role `{name}` is none of {', '.join(ROLES)}", "roles")
    return ROLES[name]


def _own(entry: Fields) -> object:
    """The message's own mark: ChatGLM3's `loss`, or OpenAI's `weight` of 0 or 1."""
    loss = entry.get("loss")
    return entry.get("weight") if loss is None else loss


def _part(part: Any) -> str:
    if isinstance(part, str):
        return part
    if not isinstance(part, dict) or part.get("type", "text") != "text":
        kind = part.get("type") if isinstance(part, dict) else type(part).__name__
        raise ValueError(f"`content` has a part of type {kind}, and only text is read")
    return text_at(part, "text", needed=False)


def _calls_in(text: str) -> list[ToolCall]:
    try:
        value = parse_json(text)
    except ValueError as error:
        raise RowFault(f"the call is not JSON: {error}", "calls") from None
    return [_call(item) for item in (value if isinstance(value, list) else [value])]


def _call(value: Any) -> ToolCall:
    try:
        return call_of(value)
    except ValueError as error:
        raise RowFault(str(error), "calls") from None


class _at:
    """A fault that is found within has the number of its message."""

    def __init__(self, number: int) -> None:
        self._number = number

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, ValueError | DataError):
            what = error.what if isinstance(error, DataError) else error
            of: FaultKind = "calls" if isinstance(error, DataError) else "layout"  # a DataError: a call in a fence
            found = error.kind if isinstance(error, RowFault) else of
            raise RowFault(f"message {self._number}: {what}", found) from None


def _holds(key: str, *keys: str) -> Any:
    """Whether the first message under `key` has these keys."""

    def fits(fields: Fields) -> bool:
        try:
            first = next(iter(list_at(fields, key)), None)
        except ValueError:
            return False
        return isinstance(first, dict) and all(name in first for name in keys)

    return fits


CHATS: dict[str, Format] = {
    "messages": Format(("messages",), ("tools", "functions"), _messages, _holds("messages", "role")),
    "sharegpt": Format(("conversations",), ("tools", "system"), _sharegpt, _holds("conversations", "from", "value")),
    "chatglm": Format(("conversations",), ("tools",), _chatglm, _holds("conversations", "role")),
}
