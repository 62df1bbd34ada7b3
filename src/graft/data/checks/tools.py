"""Tools and their calls."""

from collections.abc import Iterator, Mapping
from typing import Any

from graft.data.checks.contract import Found, Seen, Subject, check, counted
from graft.data.checks.rows import MEND

POLLUTED = ("tools", "functions")
"""Keys of a row whose nulls `--fix` takes out."""


@check("unknown-calls", "refused")
def unknown_calls(subject: Subject) -> Found | None:
    """Calls of what is not among the row's tools. Rows that list no tools may have them in their words."""
    rows = {n: ", ".join(names) for n, row in enumerate(subject.rows) if (names := list(_unlisted(row)))}
    if not rows:
        return None
    return Found(f"{counted(len(rows))} with a call of a function that is not in `tools`", MEND, rows)


def _unlisted(row: Seen) -> Iterator[str]:
    tools = row.conversation.tools if row.conversation else ()
    listed = {str(tool["name"]) for tool in tools}
    called = dict.fromkeys(call.name for message in row.messages for call in message.tool_calls)
    if listed:
        yield from (f"`{name}` is called, and there are {', '.join(listed)}" for name in called if name not in listed)


@check("null-schemas", "warning")
def null_schemas(subject: Subject) -> Found | None:
    """Keys that a table's columns gave every tool, empty where it has none. The model would be shown them all."""
    rows = {}
    for number, row in enumerate(subject.rows):
        nulls = sum(count_nulls(tool) for tool in (row.conversation.tools if row.conversation else ()))
        if nulls:
            rows[number] = f"{counted(nulls, 'null')} in `tools`"
    if not rows:
        return None
    what = f"{counted(len(rows))} whose tools have keys that are null"
    return Found(what, "--fix takes them out", rows)


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
