"""`graft data convert` and `graft data split`: rows to rows."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from graft.commands.samples import data_paths
from graft.data import read_rows
from graft.data.formats import read_each
from graft.data.formats.writers import WRITERS, write_fields
from graft.data.parts import Chosen, choose_rows
from graft.data.write import check_writable, folder_or_none, write_rows
from graft.errors import ConfigError, DataError, RowFault, nearest
from graft.records import Conversation, Row
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
    conversion = _Conversion(to, join)
    write_rows(out, conversion.rows(settings, say))
    return Converted(str(out), conversion.written, to)


@dataclass
class _Conversion:
    """Rows on their way into a format, one at a time, and what is known of those that have no place in it.

    Args:
        ways: formats that have room for all of those.
        joinable: they have room in this one if inputs are joined.
    """

    to: str
    join: bool
    written: int = 0
    faults: list[str] = field(default_factory=list)
    count: int = 0
    ways: list[str] = field(default_factory=lambda: list(WRITERS))
    joinable: bool = True

    def rows(self, settings: DataConfig, say: Say) -> Iterator[dict[str, Any]]:
        """Raise a DataError behind the last row if one cannot be written; none is given behind the first of these."""
        for path in data_paths(settings):
            for row, conversation in read_each(read_rows(path), settings.format, say=say):
                try:
                    if isinstance(conversation, RowFault):
                        raise conversation
                    fields = write_fields(conversation, self.to, join=self.join)
                except RowFault as fault:
                    self._refuse(f"{row.source}: {fault}", conversation)
                    continue
                self.written += 1
                if not self.count:
                    yield fields
        if self.count:
            more = f"; and {self.count - _SHOWN} more" if self.count > _SHOWN else ""
            what = f"{self.count} of {self.count + self.written} rows cannot be written as {self.to}: "
            raise DataError(f"{what}{'; '.join(self.faults)}{more}", fix=self._way_out())

    def _refuse(self, fault: str, conversation: Conversation | RowFault) -> None:
        self.count += 1
        if self.count <= _SHOWN:
            self.faults.append(fault)
        if isinstance(conversation, Conversation):
            self.ways = [name for name in self.ways if _fits(conversation, name)]
            self.joinable = self.joinable and _fits(conversation, self.to, join=True)

    def _way_out(self) -> str:
        """How rows that the format has no place for can be written."""
        if len(self.ways) == len(WRITERS):
            return "mend these rows; `graft data check --fix` leaves them out"
        ways = [f"--to {name} has room for all of them" for name in self.ways]
        if self.joinable:
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
    chosen = choose_rows(_rows(settings), held_out=held_out, seed=seed, by=by)
    with folder_or_none(out):
        write_rows(files[0], _fields(settings, ~chosen))
        try:
            write_rows(files[1], _fields(settings, chosen))
        except BaseException:
            files[0].unlink()  # both parts or none
            raise
    kept = int(chosen.sum())
    return Parted(str(files[0]), str(files[1]), len(chosen) - kept, kept)


def _rows(settings: DataConfig) -> Iterator[Row]:
    for path in data_paths(settings):
        yield from read_rows(path)


def _fields(settings: DataConfig, chosen: Chosen) -> Iterator[Mapping[str, Any]]:
    """The rows that are chosen, read once more: no more than one is in memory."""
    number = 0
    for number, row in enumerate(_rows(settings), start=1):
        if number <= len(chosen) and chosen[number - 1]:
            yield row.fields
    if number != len(chosen):
        what = f"{len(chosen)} rows became {number} while they were read"
        raise DataError(what, fix="split them when nothing writes to them any more")
