"""Rows -> conversations, by the format that is named, or that their keys tell."""

import importlib.util
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from graft.data.formats.chats import CHATS
from graft.data.formats.contract import Fields, Format, Learns, Talk
from graft.data.formats.pairs import PAIRS
from graft.errors import DataError, RowFault, nearest
from graft.records import Conversation, Row

FORMATS: dict[str, Format] = {**PAIRS, **CHATS}
WEIGHT = "weight"
"""A row's share in the loss, in any format."""

_USERS_OWN = (Exception, SystemExit, GeneratorExit)  # a user's code may raise anything, and may want to end us
_SHOWN = 5  # faulty rows shown before "and n more"


def read_conversations(
    rows: Iterable[Row],
    format_name: str = "auto",
    *,
    train_on: Iterable[str] = ("assistant",),
    say: Callable[[str], None] = lambda note: None,
) -> Iterator[Conversation]:
    """What the rows say, one at a time, by the format named or recognised from the first row. Behind a faulty row none
    is given any more, but all are read.

    Args:
        format_name: "auto", a name of `FORMATS`, or `file.py:function`.
        train_on: roles whose words the model learns, where a message has no mark of its own.
        say: is told which format it is, and why.

    Raises:
        DataError: the format is unknown or cannot be told; or, when all rows are read, rows lack a key, hold something
            else than text, or make no conversation. All faulty rows are counted and the first are named with their
            places.
    """
    faults: list[str] = []
    count = 0
    for row, read in read_each(rows, format_name, train_on=train_on, say=say):
        if isinstance(read, Conversation):
            if not count:  # nobody will have the others
                yield read
            continue
        count += 1
        if count <= _SHOWN:
            faults.append(f"{row.source}: {read}")
    if faults:
        more = f"; and {count - _SHOWN} more rows" if count > _SHOWN else ""
        raise DataError(
            f"{'; '.join(faults)}{more}", fix="mend or remove these rows; `graft data check` lists them all"
        )


def read_each(
    rows: Iterable[Row],
    format_name: str = "auto",
    *,
    train_on: Iterable[str] = ("assistant",),
    say: Callable[[str], None] = lambda note: None,
) -> Iterator[tuple[Row, Conversation | RowFault]]:
    """`read_conversations`, but a row that cannot be used comes with what is wrong with it.

    Raises:
        DataError: the format is unknown or cannot be told, or a file begins with a row of another one.
    """
    learns = Learns(frozenset(train_on))
    layout: Format | None = None
    first = file = ""
    for row in rows:
        layout = layout or _choose(row, format_name, say)
        if row.source.path != file:
            file = row.source.path
            first = first or file
            if format_name == "auto":
                _refuse_another(row, layout, first)
        try:
            yield row, _conversation(row, layout, learns)
        except ValueError as error:
            yield row, error if isinstance(error, RowFault) else RowFault(str(error))


def _choose(row: Row, name: str, say: Callable[[str], None]) -> Format:
    if name == "auto":
        name, layout = recognise(row), None
        layout = FORMATS[name]
        read = [*layout.required, *(key for key in layout.optional if row.fields.get(key))]
        unread = [str(key) for key in row.fields if key not in (*layout.required, *layout.optional, WEIGHT)]
        left = f"; not read: {', '.join(unread)}" if unread else ""
        say(f"{row.source.path} is read as {name}, as its first row has {', '.join(read)}{left}")
        return layout
    if ".py:" in name:
        return _own_function(name)
    if name not in FORMATS:
        alike = nearest(name, FORMATS)
        hint = f"did you mean `{alike}`? " if alike else ""
        fix = f"{hint}There are auto, {', '.join(FORMATS)}, and file.py:function"
        raise DataError(f"data.format `{name}` is unknown", fix=fix)
    return FORMATS[name]


def _refuse_another(row: Row, layout: Format, first: str) -> None:
    """Raise a DataError if the first row of a further file is of another format than the file that tells it.

    Args:
        first: that file.
    """
    if all(key in row.fields for key in layout.required):
        return
    try:
        other = recognise(row)
    except DataError:
        return  # it is of none: a row with a fault
    name = next(name for name, known in FORMATS.items() if known is layout)
    what = f"{row.source.path} begins with a row of the format {other}, and {first} is {name}"
    fix = "files of several formats are named one by one, each read by itself: --set 'data.path=[ONE, OTHER]'"
    raise DataError(what, fix=fix)


def recognise(row: Row) -> str:
    """The one format that the row's keys fit.

    Raises:
        DataError: none does, or several do.
    """
    having = {name: layout for name, layout in FORMATS.items() if all(key in row.fields for key in layout.required)}
    fitting = [name for name, layout in having.items() if layout.fits(row.fields)]
    if len(fitting) == 1:
        return fitting[0]
    if fitting:
        reasons = " and ".join(f"{name} ({', '.join(FORMATS[name].required)})" for name in fitting)
        what = f"{row.source}: the keys fit {reasons}"
        raise DataError(what, fix=f"say which with --format {' or --format '.join(fitting)}")
    found = ", ".join(map(str, row.fields)) or "none"
    if having:
        what = f"{row.source}: the keys are those of {' and '.join(having)}, but what they hold is not"
        raise DataError(what, fix='write messages as {"role": ..., "content": ...} or {"from": ..., "value": ...}')
    partly = [name for name, layout in FORMATS.items() if any(key in row.fields for key in layout.required)]
    if partly:
        missing = [key for key in FORMATS[partly[0]].required if key not in row.fields]
        what = f"{row.source}: the key `{missing[0]}` is missing (keys found: {found})"
        raise DataError(what, fix=f"the format {partly[0]} needs {', '.join(FORMATS[partly[0]].required)}")
    needs = "; ".join(f"{name}: {', '.join(layout.required)}" for name, layout in FORMATS.items())
    fix = f"rename the keys ({needs}), or give a function of your own with --format file.py:function"
    raise DataError(f"{row.source}: no format has these keys: {found}", fix=fix)


def _conversation(row: Row, layout: Format, learns: Learns) -> Conversation:
    for key in layout.required:
        if key not in row.fields:
            raise ValueError(f"the key `{key}` is missing")
    talk = layout.read(row.fields, learns)
    return Conversation(tuple(talk.messages), row.source, tuple(talk.tools), _weight(row.fields.get(WEIGHT)))


def _weight(value: object) -> float:
    """A number, or the text of one, as CSV has it."""
    if value in (None, ""):
        return 1.0
    try:
        if isinstance(value, str | int | float) and not isinstance(value, bool):
            return float(value)
    except (ValueError, OverflowError):
        pass
    raise ValueError(f"`{WEIGHT}` is {value!r}, not a number above 0: rename the key if it means something else")


def _own_function(name: str) -> Format:
    """The format of a user's own function, which turns the fields of a row into those of a known format, or a list of
    messages.

    Raises:
        DataError: there is no such function.
    """
    path, _, function_name = name.rpartition(":")
    file = Path(path).expanduser()
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if not file.is_file() or spec is None or spec.loader is None:
        raise DataError(f"data.format: there is no file {path}", fix="give it as file.py:function")
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except _USERS_OWN as error:
        raise DataError(f"{path} cannot be imported: {type(error).__name__}: {error}", fix="mend the file") from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise DataError(f"{path} has no function `{function_name}`", fix="give it as file.py:function")
    return Format((), (), lambda fields, learns: _made(function, name, fields, learns))


def _made(function: Callable[[dict[str, Any]], Any], name: str, fields: Fields, learns: Learns) -> Talk:
    try:
        made = function(dict(fields))
    except _USERS_OWN as error:
        raise ValueError(f"{name} failed: {type(error).__name__}: {error}") from error
    if isinstance(made, list):
        made = {"messages": made}
    if not isinstance(made, Mapping):
        raise ValueError(f"{name} gave {type(made).__name__}, not the fields of a row or a list of messages")
    fitting = [
        layout for layout in FORMATS.values() if all(key in made for key in layout.required) and layout.fits(made)
    ]
    if len(fitting) != 1:
        raise ValueError(f"{name} gave the keys {', '.join(map(str, made))}, which fit {len(fitting)} formats")
    return fitting[0].read(made, learns)
