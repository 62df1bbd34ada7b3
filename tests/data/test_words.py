import pytest

from graft.data.words import piece_of
from graft.records import Message, Piece


def stretch(*marks: bool | None) -> Piece:
    """`<a>bb<c>dd...`, the words of a user to each mark."""
    texts = [said for mark in marks for said in [("<a>", None), ("bb", Message("user", "bb", mark))]]
    return piece_of([*texts, ("", None)])


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ([], Piece("", None)),
        ([None], Piece("<a>bb", None)),
        ([False], Piece("<a>bb", False)),
        ([False, False], Piece("<a>bb<a>bb", False)),
        ([True], Piece("<a>bb", True, marks=((3, None), (2, True)))),
        ([None, False], Piece("<a>bb<a>bb", False, marks=((3, None), (2, None), (3, None), (2, False)))),
        ([False, True], Piece("<a>bb<a>bb", True, marks=((3, None), (2, False), (3, None), (2, True)))),
        ([True, None], Piece("<a>bb<a>bb", None, marks=((3, None), (2, True), (3, None), (2, None)))),
    ],
)
def test_words_are_marked_and_what_stands_around_them_is_given(marks: list[bool | None], expected: Piece) -> None:
    assert stretch(*marks) == expected


def test_what_one_message_says_is_learned_as_a_whole() -> None:
    said = Message("assistant", "b", trained=True)
    assert piece_of([("<a>", said), ("b", said)]) == Piece("<a>b", True)
