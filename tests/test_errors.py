import pytest

from graft import errors
from graft.errors import GraftError, ProofError, nearest

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, Exception)]


def test_an_error_says_what_is_wrong_and_then_the_way_out() -> None:
    error = GraftError("rows.json:3: `output` is empty", fix="mend the row")
    assert str(error) == "rows.json:3: `output` is empty\n  -> mend the row"
    assert (error.what, error.fix) == ("rows.json:3: `output` is empty", "mend the row")
    assert str(GraftError("no way out")) == "no way out"


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_error_is_caught_as_one_kind_and_has_the_documented_exit_code(kind: type[GraftError]) -> None:
    assert issubclass(kind, GraftError)
    assert kind("x").exit_code == (3 if kind is ProofError else 2)


def test_the_nearest_name_is_found_and_none_where_none_is_alike() -> None:
    assert nearest("lerning_rate", ["epochs", "learning_rate", "seed"]) == "learning_rate"
    assert nearest("zzz", ["epochs", "seed"]) == ""
    assert nearest("epoch", iter(["epochs"])) == "epochs"
