"""Tools and their calls."""

from collections.abc import Iterator, Mapping
from typing import Any

from graft.data.checks.contract import Seen, Terms, counted, row_check
from graft.data.checks.rows import MEND

POLLUTED = ("tools", "functions")
"""Keys of a row whose nulls `--fix` takes out."""


@row_check("unknown-calls", "refused", what="with a call of a function that is not in `tools`", fix=MEND)
def unknown_calls(row: Seen, _: Terms) -> str:
    """Calls of what is not among the row's tools. Rows that list no tools may have them in their words."""
    return ", ".join(_unlisted(row))


def _unlisted(row: Seen) -> Iterator[str]:
    tools = row.conversation.tools if row.conversation else ()
    listed = {str(tool["name"]) for tool in tools}
    called = dict.fromkeys(call.name for message in row.messages for call in message.tool_calls)
    if listed:
        yield from (f"`{name}` is called, and there are {', '.join(listed)}" for name in called if name not in listed)


@row_check("null-schemas", "warning", what="whose tools have keys that are null", fix="--fix takes them out")
def null_schemas(row: Seen, _: Terms) -> str:
    """Keys that a table's columns gave every tool, empty where it has none. The model would be shown them all."""
    nulls = sum(count_nulls(tool) for tool in (row.conversation.tools if row.conversation else ()))
    return f"{counted(nulls, 'null')} in `tools`" if nulls else ""


def count_nulls(value: Any) -> int:
    """Keys that are null, in a tool's definition. A null in a list, such as one of an enum's values, is meant."""
    if isinstance(value, Mapping):
        return sum(1 if item is None else count_nulls(item) for key, item in value.items() if key != "default")
    return sum(map(count_nulls, value)) if isinstance(value, list | tuple) else 0


def without_nulls(value: Any) -> Any:
    """`value` without what `count_nulls` counts."""
    if isinstance(value, Mapping):
        return {key: without_nulls(item) for key, item in value.items() if item is not None or key == "default"}
    return [without_nulls(item) for item in value] if isinstance(value, list | tuple) else value
