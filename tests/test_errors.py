import errno
import os
import signal

import pytest

from graft import errors
from graft.errors import DiskError, GraftError, Interrupted, ProofError, RunError, nearest, write_error

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


def test_an_error_says_what_is_wrong_and_then_the_way_out() -> None:
    error = GraftError("rows.json:3: `output` is empty", fix="mend the row")
    assert str(error) == "rows.json:3: `output` is empty\n  -> mend the row"
    assert (error.what, error.fix) == ("rows.json:3: `output` is empty", "mend the row")
    assert str(GraftError("no way out")) == "no way out"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_is_caught_as_one_kind_and_has_the_documented_exit_code(kind: type[GraftError]) -> None:
    assert issubclass(kind, GraftError)
    assert kind("x").exit_code == {ProofError: 3, DiskError: 4}.get(kind, 2)


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.ENOSPC, DiskError), (errno.EIO, DiskError), (errno.EDQUOT, DiskError), (errno.EACCES, RunError)],
)
def test_a_disk_at_fault_is_told_from_a_path_at_fault(number: int, kind: type[RunError]) -> None:
    error = write_error("runs/x", OSError(number, os.strerror(number)), fix="free some")
    assert type(error) is kind
    assert str(error) == f"runs/x cannot be written: {os.strerror(number)}\n  -> free some"


def test_an_interruption_says_how_far_it_got_and_how_to_go_on() -> None:
    told = Interrupted(signal.SIGTERM, "after step 3, which is saved", fix="give the same command")
    assert str(told) == "stopped by SIGTERM after step 3, which is saved\n  -> give the same command"
    assert str(Interrupted(signal.SIGINT, at_once=True)) == "stopped by SIGINT at once"


def test_the_nearest_name_is_found_and_none_where_none_is_alike() -> None:
    assert nearest("lerning_rate", ["epochs", "learning_rate", "seed"]) == "learning_rate"
    assert nearest("zzz", ["epochs", "seed"]) == ""
    assert nearest("epoch", iter(["epochs"])) == "epochs"
