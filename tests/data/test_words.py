import pytest

from graft.data.words import trained_of
from graft.errors import DataError
from graft.records import Message


def marked(*marks: bool | None) -> list[Message]:
    return [Message(role, "words", mark) for role, mark in zip(("system", "user", "tool"), marks, strict=False)]


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ((None, None), None),
        ((True, True), True),
        ((False, False), False),
        ((False, None), False),
        ((None, False), False),
        ((), None),
    ],
)
def test_a_stretch_is_trained_as_its_messages_are(marks: tuple[bool | None, ...], expected: bool | None) -> None:
    assert trained_of(marked(*marks)) is expected


@pytest.mark.parametrize("marks", [(True, False), (True, None), (False, True), (None, True), (True, True, False)])
def test_what_is_learned_and_what_is_not_cannot_be_one_stretch(marks: tuple[bool | None, ...]) -> None:
    with pytest.raises(DataError, match=r"what is to be learned \(.+\) and what is not \(.+\) in one stretch") as told:
        trained_of(marked(*marks))
    assert "chatml" in told.value.fix
