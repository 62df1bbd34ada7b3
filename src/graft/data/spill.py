"""What is too much for the memory, once there is much of it: records and texts that wait in files without names."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from graft.errors import DataError
from graft.runtime import cache_folder

_ROOM = 2**20  # bytes of one table that wait in memory


class Table:
    """Records of one shape, N of them: in memory while they are few, then in a file that has no name and is gone with
    the process, however it ends.

    Args:
        shape: numpy's name of a record's type.
    """

    def __init__(self, shape: DTypeLike) -> None:
        self._shape = np.dtype(shape)
        self._waiting = bytearray()
        self._file: IO[bytes] | None = None

    def add(self, packed: bytes | NDArray[Any]) -> None:
        """Add records.

        Args:
            packed: their bytes, as the shape has them, or an array of them.

        Raises:
            DataError: the disk is full, or has no place to write to.
        """
        self._waiting += packed if isinstance(packed, bytes) else np.ascontiguousarray(packed).tobytes()
        if len(self._waiting) >= _ROOM:
            self._flush()

    def finish(self) -> NDArray[Any]:
        """All of them (N,). No more can be added."""
        if self._file is None:
            return np.frombuffer(self._waiting, dtype=self._shape)
        self._flush()
        return np.asarray(np.memmap(self._file, dtype=self._shape, mode="r"))

    def _flush(self) -> None:
        try:
            self._file = self._file or _nameless()
            self._file.write(self._waiting)
            self._file.flush()
        except OSError as error:
            fix = "free some space, or name a folder on another disk in GRAFT_CACHE"
            folder = spill_folder() or tempfile.gettempdir()
            raise DataError(f"what is known of the rows cannot be kept in {folder}: {error}", fix=fix) from None
        self._waiting.clear()


class Texts:
    """Texts, kept as `Table` keeps records. What they are is asked for once all of them are added."""

    def __init__(self) -> None:
        self._bytes, self._ends = Table("u1"), Table("i8")
        self._size = 0
        self._finished: tuple[NDArray[Any], NDArray[Any]] | None = None

    def add(self, text: str) -> None:
        """Add one.

        Raises:
            DataError: as `Table.add`.
        """
        packed = text.encode("utf-8", "surrogatepass")
        self._size += len(packed)
        self._bytes.add(packed)
        self._ends.add(self._size.to_bytes(8, "little"))

    def __getitem__(self, number: int) -> str:
        if self._finished is None:
            self._finished = self._bytes.finish(), self._ends.finish()
        kept, ends = self._finished
        if number >= len(ends):
            raise IndexError(number)
        start = int(ends[number - 1]) if number else 0
        return bytes(kept[start : int(ends[number])]).decode("utf-8", "surrogatepass")

    def __iter__(self) -> Iterator[str]:
        number = 0
        while True:
            try:
                text = self[number]
            except IndexError:
                return
            yield text
            number += 1


def spill_folder() -> Path | None:
    """Where what is too much for the memory waits: beside what can be made again, as the system's own place for such
    files may be the memory. None, which means that place, where nothing can be written there."""
    folder = cache_folder()
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    return folder if os.access(folder, os.W_OK) else None


def _nameless() -> IO[bytes]:
    file: IO[bytes] = tempfile.TemporaryFile(dir=spill_folder())  # noqa: SIM115  # it is closed with its table
    return file
