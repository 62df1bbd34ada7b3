"""`graft data convert` and `graft data split`: rows to rows."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from graft.commands.samples import data_paths
from graft.data import read_rows
from graft.data.formats import read_each
from graft.data.formats.writers import WRITERS, write_fields
from graft.data.parts import split_rows
from graft.data.write import check_writable, write_rows
from graft.errors import ConfigError, DataError, RowFault, nearest
from graft.records import Conversation
from graft.runtime import say_on_stderr
from graft.sections import DataConfig

Say = Callable[[str], None]

_SHOWN = 5  # refused rows that are named


@dataclass(frozen=True)
class Converted:
    """What was written where."""

    out: str
    rows: int
    format: str

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Parted:
    """What was written where, and how many rows each file has."""

    train: str
    held_out: str
    train_rows: int
    held_out_rows: int

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def convert(settings: DataConfig, to: str, out: Path, *, join: bool = False, say: Say = say_on_stderr) -> Converted:
    """Write the rows of `data.path` to `out` in the format `to`; all of them, or nothing.

    Args:
        join: write an input below its instruction where `to` has no place for it.

    Raises:
        GraftError: there is no such format, `out` cannot be written, or rows say what the format has no place for.
    """
    if to not in WRITERS:
        hint = f"did you mean {alike}? " if (alike := nearest(to, WRITERS)) else ""
        raise ConfigError(f"--to {to}: no format is called so", fix=f"{hint}There are {', '.join(WRITERS)}")
    check_writable(out)
    written: list[dict[str, Any]] = []
    faults: list[str] = []
    refused: list[Conversation] = []
    for path in data_paths(settings):
        for row, conversation in read_each(read_rows(path), settings.format, say=say):
            if isinstance(conversation, RowFault):
                faults.append(f"{row.source}: {conversation}")
                continue
            try:
                written.append(write_fields(conversation, to, join=join))
            except RowFault as fault:
                faults.append(f"{row.source}: {fault}")
                refused.append(conversation)
    if faults:
        more = f"; and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        what = f"{len(faults)} of {len(faults) + len(written)} rows cannot be written as {to}: "
        raise DataError(f"{what}{'; '.join(faults[:_SHOWN])}{more}", fix=_way_out(refused, to))
    write_rows(out, written)
    return Converted(str(out), len(written), to)


def _way_out(refused: Sequence[Conversation], to: str) -> str:
    """How rows that `to` has no place for can be written."""
    if not refused:
        return "mend these rows; `graft data check --fix` leaves them out"
    ways = [f"--to {name} has room for all of them" for name in WRITERS if all(_fits(row, name) for row in refused)]
    if all(_fits(row, to, join=True) for row in refused):
        ways.insert(0, "--join writes an input below its instruction")
    return "; ".join(ways[:_SHOWN]) or "leave these rows out: no one format has room for all of them"


def _fits(conversation: Conversation, name: str, *, join: bool = False) -> bool:
    try:
        write_fields(conversation, name, join=join)
    except RowFault:
        return False
    return True


def part(settings: DataConfig, out: Path, *, held_out: float, seed: int, by: str = "") -> Parted:
    """Write the rows of `data.path` to `out/train.jsonl` and `out/held_out.jsonl`, as they are.

    Args:
        held_out: the share of the second file, in (0, 1).
        by: a field of which each value has that share.

    Raises:
        GraftError: the data cannot be read, a file is there already, or one would be empty.
    """
    files = [out / "train.jsonl", out / "held_out.jsonl"]
    for file in files:
        check_writable(file)
    rows = [row for path in data_paths(settings) for row in read_rows(path)]
    parts = split_rows(rows, held_out=held_out, seed=seed, by=by)
    write_rows(files[0], (row.fields for row in parts.train))
    try:
        write_rows(files[1], (row.fields for row in parts.held_out))
    except BaseException:
        files[0].unlink()  # both parts or none
        raise
    return Parted(str(files[0]), str(files[1]), len(parts.train), len(parts.held_out))
