"""What a format is, and how formats read the fields of a row."""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graft.data.calls import parse_json, too_deep
from graft.errors import RowFault
from graft.records import Message, Role, ToolCall

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Learns:
    """Whose words the model learns, where a message has no mark of its own."""

    roles: frozenset[str]

    def mark(self, role: Role, own: object = None) -> bool | None:
        """What `Message.trained` is for a message of `role`, whose own mark wins.

        Raises:
            ValueError: the mark is neither true nor false.
        """
        if own is None:
            return True if role in self.roles else None
        if own not in (0, 1):  # True and False among them
            raise ValueError(f"the mark {own!r} is neither true nor false")
        return bool(own)

    def message(
        self,
        role: Role,
        content: str,
        *,
        own: object = None,
        context: str = "",
        calls: Iterable[ToolCall] = (),
        call_id: str = "",
    ) -> Message:
        listed = tuple(calls)
        for call in listed:
            check_json([call.name, call.arguments], "tool_calls")
        return Message(role, content, self.mark(role, own), context, listed, call_id)


@dataclass(frozen=True)
class Talk:
    """What a row says: messages, and the tools that they speak of."""

    messages: Sequence[Message]
    tools: Sequence[Mapping[str, Any]] = ()


@dataclass(frozen=True)
class Format:
    """A layout of rows.

    Args:
        required: keys that every row must have; they also tell the format.
        optional: keys that it may have.
        read: what a row says. It raises a ValueError that names the key or the message at fault.
        fits: whether a row that has the keys is of this format; for those that share their keys with another.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...]
    read: Callable[[Fields, Learns], Talk]
    fits: Callable[[Fields], bool] = lambda fields: True


def text_at(fields: Fields, key: str, *, needed: bool = True) -> str:
    """The text under `key`; "" where it is not needed and is missing or null."""
    value = fields.get(key)
    if value is None and not needed:
        return ""
    if key not in fields:
        raise ValueError(f"the key `{key}` is missing")
    if not isinstance(value, str):
        raise ValueError(f"`{key}` is {type(value).__name__}, not a text")
    if needed and not value.strip():
        raise RowFault(f"`{key}` is empty", "empty")
    return whole(value, key)


def whole(text: str, key: str) -> str:
    """`text`, if a tokenizer can read it."""
    try:
        text.encode()
    except UnicodeEncodeError:
        what = f"`{key}` holds half a surrogate pair, which no tokenizer can read"
        raise RowFault(what, "encoding") from None
    return text


def check_json(value: object, key: str) -> None:
    """Raise a ValueError if `value` cannot be written as JSON that a tokenizer can read."""
    try:
        if isinstance(value, Mapping | list | tuple) and too_deep(value):
            raise RecursionError
        text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        reason = "it is nested too deep" if isinstance(error, RecursionError) else error
        raise ValueError(f"`{key}` holds what is no JSON: {reason}") from None
    whole(text, key)


def list_at(fields: Fields, key: str) -> list[Any]:
    """The list under `key`, or the JSON text of one, as CSV has it; [] where there is none."""
    value = fields.get(key)
    if isinstance(value, str):
        try:
            value = parse_json(value) if value.strip() else []
        except ValueError as error:
            raise ValueError(f"`{key}` is a text, and not JSON: {error}") from None
    if value is None:
        return []
    if not isinstance(value, list):
        raise ValueError(f"`{key}` is {type(value).__name__}, not a list")
    return value
