from typing import get_args

import pytest

from graft.data import encode_all, encode_conversation
from graft.data.encoder import TooLong
from graft.errors import DataError
from graft.records import Conversation, Message, Source
from tests.data.characters import BOS, EOS, OPENING, Characters, ids
from tests.data.test_encode import TEMPLATE, conversation


def rows_of(*answers: int) -> list[Conversation]:
    return [conversation("q", "a" * n, line=line) for line, n in enumerate(answers, start=1)]


LENGTH = 5  # of such a sample without its answer


def test_what_fits_is_kept_whole_and_nothing_is_said() -> None:
    for too_long in get_args(TooLong):
        found = encode_all(rows_of(1, 5), TEMPLATE, Characters(), cutoff=LENGTH + 5, too_long=too_long)
        assert [len(s) for s in found.samples] == [LENGTH + 1, LENGTH + 5]
        assert (found.long, found.left_out, found.report()) == ([], 0, "")


def test_drop_leaves_long_samples_out_and_says_which_and_what_would_keep_them() -> None:
    rows = rows_of(1, 6, 2, 9, 5)
    found = encode_all(rows, TEMPLATE, Characters(), cutoff=LENGTH + 5, too_long="drop")
    assert [s.source.line for s in found.samples if s.source] == [1, 3, 5]
    assert found.left_out == 2
    report = found.report()
    assert "2 of 5 rows" in report
    assert "0 cut, 2 left out" in report
    assert "rows.json, lines 2, 4)" in report
    assert f"data.cutoff {LENGTH + 9} keeps them all" in report
    assert encode_all(rows, TEMPLATE, Characters(), cutoff=LENGTH + 9, too_long="drop").report() == ""
    assert encode_all(rows, TEMPLATE, Characters(), cutoff=LENGTH + 8, too_long="drop").left_out == 1


def test_cut_keeps_the_beginning_and_leaves_out_what_has_no_answer_left() -> None:
    rows = [*rows_of(9, 1), conversation("q" * 50, "a", line=3)]
    found = encode_all(rows, TEMPLATE, Characters(), cutoff=8, too_long="cut")
    whole = encode_conversation(rows[0], TEMPLATE, Characters())
    assert found.samples[0].ids == whole.ids[:8]
    assert found.samples[0].trained == whole.trained[:8]
    assert [s.source.line for s in found.samples if s.source] == [1, 2]
    assert "2 of 3 rows" in found.report()
    assert "1 cut, 1 left out" in found.report()
    assert "lines 1, 3)" in found.report()


def test_a_row_that_is_taken_twice_is_two_rows() -> None:
    (row,) = rows_of(9)
    found = encode_all([row, row, *rows_of(1)], TEMPLATE, Characters(), cutoff=LENGTH + 5, too_long="drop")
    assert (found.rows, found.left_out) == (3, 2)


def test_many_long_rows_are_counted_and_some_are_named() -> None:
    found = encode_all(rows_of(1, *[9] * 20), TEMPLATE, Characters(), cutoff=LENGTH + 5, too_long="drop")
    assert "20 of 21 rows" in found.report()
    assert "lines 2, 3, 4, 5, 6 and 15 more)" in found.report()


def test_error_names_the_first_long_row_and_the_cutoff_that_it_needs() -> None:
    with pytest.raises(DataError) as caught:
        encode_all(rows_of(1, 9, 20), TEMPLATE, Characters(), cutoff=LENGTH + 5, too_long="error")
    assert caught.value.what.startswith(f"rows.json:2: {LENGTH + 9} tokens")
    assert f"data.cutoff to {LENGTH + 9}" in caught.value.fix


@pytest.mark.parametrize("too_long", ["drop", "cut"])
def test_nothing_left_is_an_error_that_names_the_cutoff_for_all(too_long: TooLong) -> None:
    with pytest.raises(DataError) as caught:
        encode_all(rows_of(9, 12, 7), TEMPLATE, Characters(), cutoff=3, too_long=too_long)
    assert "rows.json:1" in caught.value.what
    assert f"data.cutoff to {LENGTH + 12}" in caught.value.fix


def test_rows_without_a_trained_answer_are_an_error() -> None:
    with pytest.raises(DataError, match=r"rows.json:1: no row has a token to train on"):
        encode_all([conversation("q", "a", trained=False)], TEMPLATE, Characters(), cutoff=99, too_long="drop")


def document(text: str, line: int = 1) -> Conversation:
    return Conversation((Message("text", text, trained=True),), Source("book.txt", line))


@pytest.mark.parametrize("bos", [BOS, None])
def test_a_long_document_becomes_samples_that_lose_nothing_of_it(bos: int | None) -> None:
    codec = Characters(bos_id=bos)
    rows = [document("abcdefghij"), document("k", line=2), conversation("q", "a" * 9, line=3)]
    found = encode_all(rows, TEMPLATE, codec, cutoff=6, too_long="drop")
    assert all(len(sample) <= 6 for sample in found.samples)
    opening = [] if bos is None else [bos]
    said = [id for sample in found.samples for id in sample.ids[len(opening) :]]
    assert said == [OPENING, *ids("abcdefghij"), EOS, OPENING, *ids("k"), EOS]
    assert all(list(sample.ids[: len(opening)]) == opening for sample in found.samples)
    assert all(sample.trained == (False,) + (True,) * (len(sample) - 1) for sample in found.samples)
    assert "1 of 3 rows" in found.report(), "the conversation is too long, the document is not"


def test_cutting_keeps_shares_beside_their_tokens() -> None:
    rows = rows_of(9)
    found = encode_all(rows, TEMPLATE, Characters(), cutoff=8, too_long="cut", prompt_weight=0.5)
    whole = encode_conversation(rows[0], TEMPLATE, Characters(), prompt_weight=0.5)
    assert whole.shares is not None
    assert found.samples[0].shares == whole.shares[:8]
