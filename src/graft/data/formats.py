"""Rows -> conversations: one function a format, registered by name, recognised by its keys."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from graft.errors import DataError, nearest
from graft.records import Conversation, Message, Row

_SHOWN = 5  # faulty rows shown before "and n more"


@dataclass(frozen=True)
class Format:
    """A layout of rows.

    Args:
        required: keys that every row must have; they also tell the format.
        optional: keys that it may have.
        read: a row's conversation; it may rely on the keys being there and being texts.
    """

    required: tuple[str, ...]
    optional: tuple[str, ...]
    read: Callable[[Row], Conversation]


def _alpaca(row: Row) -> Conversation:
    fields = row.fields
    user = Message("user", fields["instruction"], trained=False, context=fields.get("input") or "")
    return Conversation((user, Message("assistant", fields["output"], trained=True)), row.source)


FORMATS: dict[str, Format] = {"alpaca": Format(("instruction", "output"), ("input",), _alpaca)}


def read_conversations(rows: Sequence[Row], format_name: str = "auto") -> list[Conversation]:
    """What the rows say, by the format named or recognised from the first row.

    Raises:
        DataError: the format is unknown or cannot be told; or rows lack a key, hold something else than text, or have
            an empty instruction or answer. All faulty rows are counted and the first are named with file and line.
    """
    layout = FORMATS[_recognise(rows[0]) if format_name == "auto" else _known(format_name)]
    faults = [(row, fault) for row in rows if (fault := _fault(row, layout))]
    if faults:
        shown = "; ".join(f"{row.source}: {fault}" for row, fault in faults[:_SHOWN])
        more = f"; and {len(faults) - _SHOWN} more rows" if len(faults) > _SHOWN else ""
        raise DataError(f"{shown}{more}", fix="mend or remove these rows")
    return [layout.read(row) for row in rows]


def _known(name: str) -> str:
    if name not in FORMATS:
        alike = nearest(name, FORMATS)
        hint = f"did you mean `{alike}`? " if alike else ""
        raise DataError(f"data.format `{name}` is unknown", fix=f"{hint}There are auto, {', '.join(FORMATS)}")
    return name


def _recognise(row: Row) -> str:
    for name, layout in FORMATS.items():
        if all(key in row.fields for key in layout.required):
            return name
    found = ", ".join(map(str, row.fields)) or "none"
    partly = [name for name, layout in FORMATS.items() if any(key in row.fields for key in layout.required)]
    if partly:
        missing = [key for key in FORMATS[partly[0]].required if key not in row.fields]
        what = f"{row.source}: the key `{missing[0]}` is missing (keys found: {found})"
        raise DataError(what, fix=f"the format {partly[0]} needs {', '.join(FORMATS[partly[0]].required)}")
    needs = "; ".join(f"{name}: {', '.join(layout.required)}" for name, layout in FORMATS.items())
    raise DataError(f"{row.source}: no format has these keys: {found}", fix=f"rename the keys ({needs})")


def _fault(row: Row, layout: Format) -> str:
    for key in layout.required:
        if key not in row.fields:
            return f"the key `{key}` is missing"
    for key in (*layout.required, *layout.optional):
        value = row.fields.get(key)
        if not isinstance(value, str) and not (value is None and key in layout.optional):
            return f"`{key}` is {type(value).__name__}, not a text"
        if isinstance(value, str) and key in layout.required and not value.strip():
            return f"`{key}` is empty"
        if value and any("\ud800" <= character <= "\udfff" for character in value):
            return f"`{key}` holds half a surrogate pair, which no tokenizer can read"
    return ""
