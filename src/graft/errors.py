"""Errors that a user can act on: what, where, why, and the way out.

Every error that bad input can cause is a `GraftError`; the command line prints it without a traceback and leaves with
its `exit_code`. Anything else that escapes is a defect of ours and keeps its traceback.
"""

import difflib
import errno
import signal
from collections.abc import Iterable
from typing import Literal


class GraftError(Exception):
    """Base of all errors shown to users.

    Args:
        what: what is wrong, with the place (file:line, setting, module) and the numbers.
        fix: the command or setting that mends it.
    """

    exit_code = 2

    def __init__(self, what: str, *, fix: str = "") -> None:
        super().__init__(f"{what}\n  -> {fix}" if fix else what)
        self.what = what
        self.fix = fix


class ConfigError(GraftError):
    """A setting is unknown, has the wrong type, or contradicts another."""


class DataError(GraftError):
    """A file or a row of data cannot be used."""


class EmptyBatchError(DataError):
    """No sample has a token to train on or to score."""


class ModelError(GraftError):
    """A base model or its tokenizer cannot be used."""


class AdapterError(GraftError):
    """An adapter does not fit the base, is empty, or is broken."""


class RunError(GraftError):
    """A run folder cannot be written, or a checkpoint in it cannot be read."""


class DiskError(RunError):
    """A disk is full or fails. What was whole before still is."""

    exit_code = 4


class ProofError(GraftError):
    """A result does not answer as the model that it was made from; it is not handed over."""

    exit_code = 3


_OF_THE_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG, errno.EROFS}


def write_error(what: str, error: OSError, *, fix: str) -> RunError:
    """What to raise where something cannot be written: a DiskError where the disk is at fault, not the path."""
    kind = DiskError if error.errno in _OF_THE_DISK else RunError
    return kind(f"{what} cannot be written: {error.strerror or error}", fix=fix)


class Interrupted(BaseException):
    """A signal told the work to stop, and it did. No `Exception`: who goes on after errors is not to go on after this.

    Args:
        number: of the signal; the exit code is that of a process that it ended.
        where: how far the work got.
        fix: how to go on.
        at_once: it was the second signal, and nothing is waited for.
    """

    def __init__(self, number: int, where: str = "", *, fix: str = "", at_once: bool = False) -> None:
        what = f"stopped by {signal.Signals(number).name}{' at once' if at_once else ''}{where and f' {where}'}"
        super().__init__(f"{what}\n  -> {fix}" if fix else what)
        self.exit_code = 128 + number
        self.at_once = at_once


FaultKind = Literal["layout", "roles", "empty", "calls", "encoding", "template"]
"""What is wrong with a row: its keys and types; who speaks when; nobody speaks; a tool call; its characters; that the
template cannot write it."""


class RowFault(DataError, ValueError):
    """A row cannot be used as it is. Whoever reads many rows collects these and raises a `DataError` that names them.

    Args:
        what: what is wrong, with the key or the message at fault.
    """

    def __init__(self, what: str, kind: FaultKind = "layout") -> None:
        super().__init__(what)
        self.kind: FaultKind = kind


def nearest(name: str, known: Iterable[str]) -> str:
    """The known name most like `name`, or "" where none is alike."""
    matches = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return matches[0] if matches else ""
