"""Tool calls as models write them, and back: JSON and Python literals are parsed, nothing is ever run."""

import ast
import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graft.errors import DataError
from graft.records import ToolCall

DEEPEST = 100
"""Lists and objects within one another that a row may have."""

_JSON = json.JSONEncoder(ensure_ascii=False)
_OPEN, _CLOSE = "<tool_call>", "</tool_call>"
_MARKS = re.compile(r"\s*(?:\[TOOL_CALLS\]|<\|python_tag\|>)?\s*")
_FENCE = "```"


@dataclass(frozen=True)
class Answer:
    """What a model said: words, and calls of tools."""

    content: str
    calls: tuple[ToolCall, ...] = ()


def read_calls(text: str, syntax: str) -> Answer:
    """The words and the calls in a generated text.

    Args:
        syntax: one of `SYNTAXES`, or "" for a template that writes no calls.

    Raises:
        DataError: the text marks a call that cannot be read.
    """
    return SYNTAXES[syntax](text) if syntax else Answer(text)


def too_deep(value: Any) -> bool:
    """Whether lists and objects stand more than `DEEPEST` within one another: what walks them would fail."""
    level = [value]
    for _ in range(DEEPEST):
        level = [
            item
            for holder in level
            for item in (holder.values() if isinstance(holder, Mapping) else holder)
            if isinstance(item, Mapping | list | tuple)
        ]
        if not level:
            return False
    return True


def finite(digits: str) -> float:
    """The number that JSON spells so.

    Raises:
        ValueError: no number of 64 bits is as large; it would be read as infinite, and written as no JSON.
    """
    number = float(digits)
    if math.isinf(number):
        raise ValueError(f"the number {digits[:20]} is too large")
    return number


def as_json(value: Any) -> str:
    """`value` as one line of JSON, non-ASCII kept."""
    return _JSON.encode(value)


def marked_call(call: ToolCall) -> str:
    """A call as Hermes and Qwen write it; `read_calls` reads it as "marked"."""
    return f"{_OPEN}\n{as_json({'name': call.name, 'arguments': dict(call.arguments)})}\n{_CLOSE}"


def tools_text(tools: Sequence[Mapping[str, Any]]) -> str:
    """The definitions of `tools`, and how to call them, in words; those of Hermes and Qwen."""
    listed = "\n".join(as_json(tool) for tool in tools)
    return (
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        f"You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n{listed}\n</tools>\n\n"
        "For each function call, return a json object with function name and arguments within "
        f"{_OPEN}{_CLOSE} XML tags:\n{_OPEN}\n"
        f'{{"name": <function-name>, "arguments": <args-json-object>}}\n{_CLOSE}'
    )


def call_of(value: Any) -> ToolCall:
    """The call that a JSON object describes: its name, and its arguments as an object or as the JSON text of one.

    Raises:
        ValueError: it describes none.
    """
    if isinstance(value, Mapping) and isinstance(value.get("function"), Mapping):
        value = {"id": value.get("id"), **value["function"]}
    if not isinstance(value, Mapping) or not isinstance(value.get("name"), str) or not value["name"].strip():
        raise ValueError("a call needs a `name`")
    arguments = value.get("arguments", value.get("parameters"))
    if isinstance(arguments, str):
        arguments = parse_json(arguments) if arguments.strip() else {}
    if arguments is None:
        arguments = {}
    if not isinstance(arguments, Mapping):
        raise ValueError(f"the arguments of the call of `{value['name']}` are no JSON object")
    return ToolCall(value["name"], arguments, str(value.get("id") or ""))


def parse_json(text: str) -> Any:
    """What `text` says in JSON.

    Raises:
        ValueError: it is no JSON, or says a thing twice.
    """

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            raise ValueError("a key stands twice in one object")
        return dict(pairs)

    def no_number(name: str) -> Any:
        raise ValueError(f"{name} is not JSON")

    try:
        value = json.loads(text, object_pairs_hook=unique, parse_constant=no_number, parse_float=finite)
    except RecursionError:
        raise ValueError("nested too deep") from None
    if isinstance(value, dict | list) and too_deep(value):
        raise ValueError("nested too deep")
    return value


def _marked(text: str) -> Answer:
    """`<tool_call>{"name": ..., "arguments": {...}}</tool_call>`, once or more, after the words."""
    words, *blocks = text.split(_OPEN)
    if not blocks:
        return Answer(text)
    calls = []
    for block in blocks:
        inner, closed, rest = block.partition(_CLOSE)
        if rest.strip():
            words += rest
        calls.append(_call(inner if closed else block))
    return Answer(words.rstrip("\n"), tuple(calls))


def _bare(text: str) -> Answer:
    """The text is the JSON object of a call or a list of them, as Llama 3 and Mistral write it."""
    body = text[_MARKS.match(text).end() :]  # type: ignore[union-attr]  # it matches the empty text
    if not body.startswith(("{", "[")):
        return Answer(text)
    try:
        value = parse_json(body)
        found = value if isinstance(value, list) else [value]
        return Answer("", tuple(call_of(item) for item in found)) if found else Answer(text)
    except ValueError:
        return Answer(text)  # an answer may be JSON, and be no call


def _fenced(text: str) -> Answer:
    """A tool's name, and a Python call with its arguments in a fence, as ChatGLM3 writes it."""
    name, _, block = text.strip().partition("\n")
    opening, _, code = block.strip().partition("\n")
    if opening.rstrip() not in (_FENCE, f"{_FENCE}python") or not code.endswith(_FENCE):
        return Answer(text)
    return Answer("", (ToolCall(name.rstrip(), _python_call(code.removesuffix(_FENCE))[1]),))


def _listed(text: str) -> Answer:
    """A Python list of calls, `[name(key="value")]`."""
    body = text[_MARKS.match(text).end() :].rstrip()  # type: ignore[union-attr]
    if not body.startswith("["):
        return Answer(text)
    try:
        tree = ast.parse(body, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return Answer(text)
    if not isinstance(tree, ast.List) or not tree.elts or not all(isinstance(item, ast.Call) for item in tree.elts):
        return Answer(text)
    return Answer("", tuple(ToolCall(*_python_call(ast.unparse(item))) for item in tree.elts))


SYNTAXES: dict[str, Callable[[str], Answer]] = {
    "marked": _marked,
    "bare": _bare,
    "fenced": _fenced,
    "listed": _listed,
}
"""The ways in which models write calls."""


def _python_call(code: str) -> tuple[str, dict[str, Any]]:
    """The name and the arguments of a Python call whose arguments are literals."""
    try:
        tree = ast.parse(code.strip(), mode="eval").body
        if not isinstance(tree, ast.Call) or tree.args:
            raise ValueError("it is no call with named arguments alone")
        arguments: dict[str, Any] = {}
        for keyword in tree.keywords:
            value = ast.literal_eval(keyword.value)
            arguments |= value if keyword.arg is None else {keyword.arg: value}
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError) as error:
        raise DataError(f"a call cannot be read: {error}: {code.strip()[:200]}", fix=_FIX) from None
    return ast.unparse(tree.func), arguments


def _call(text: str) -> ToolCall:
    try:
        return call_of(parse_json(text))
    except ValueError as error:
        raise DataError(f"a call cannot be read: {error}: {text.strip()[:200]}", fix=_FIX) from None


_FIX = "ask again, or train on more calls: the model does not write them as its template does"
