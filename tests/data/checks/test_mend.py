import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.data import hold_out
from graft.data.checks import CHECKS, SAID, Cleaner, Finding, Subject, Survey, Terms, find
from graft.errors import DataError
from tests.data.checks.subjects import Fields, alpaca, rows_of, seen, subject, talk

NULLS = {"name": "f", "parameters": {"a": None, "b": {"type": "string"}}}


def cleaned(*rows: Fields, findings: Sequence[Finding] | None = None, drop: Sequence[str] = ()) -> list[Fields]:
    whole = subject(*rows)
    cleaner = Cleaner(whole, find(whole) if findings is None else findings, drop=drop)
    kept = [dict(fields) for fields in cleaner.fields(rows_of(*rows))]
    assert cleaner.rows == len(kept)
    return kept


def test_a_clean_copy_has_no_refused_rows_no_copies_and_no_nulls() -> None:
    rows = [
        alpaca("Where is Ann?", "She is in Elm.", id=7),
        alpaca("Where is Ann?", "She is in Elm.", id=8),
        alpaca("", "She is in Elm."),
        alpaca("Where is Bob?", "Yes."),
    ]
    whole = subject(*rows)
    assert Cleaner(whole, find(whole)).dropped == {"empty": 1, "duplicates": 1}
    kept = cleaned(*rows)
    assert kept == [rows[0], rows[3]]
    assert cleaned(*rows, drop=["short-answers"]) == [rows[0]]
    assert {finding.check for finding in find(subject(*kept))} == {"short-answers"}


def test_nulls_are_taken_out_of_tools_in_whatever_form_they_stand() -> None:
    rows = [talk(("user", "a b"), ("assistant", "c d"), tools=tools) for tools in ([NULLS], json.dumps([NULLS]))]
    cleaner = Cleaner(subject(*rows), [])
    kept = list(cleaner.fields(rows_of(*rows)))
    assert cleaner.mended == 2
    mended = {"name": "f", "parameters": {"b": {"type": "string"}}}
    assert kept[0]["tools"] == [mended]
    assert json.loads(kept[1]["tools"]) == [mended]
    assert rows[0]["tools"] == [NULLS], "the original is not touched"


def test_rows_of_a_file_to_measure_on_are_no_part_of_the_copy() -> None:
    survey = Survey(Terms(1024))
    row = alpaca("Where is Ann?", "She is in Elm.")
    for number, looked_at in enumerate(seen(row, row)):
        survey.add(looked_at, foreign=number == 1)
    whole = survey.finish()
    cleaner = Cleaner(whole, find(whole))
    assert (list(cleaner.fields(rows_of(row))), cleaner.rows, cleaner.dropped) == ([], 0, {"leaks": 1})


def drawn(whole: Subject, share: float = 0.3) -> Subject:
    held = np.zeros(len(whole), dtype=bool)
    said = whole.has(SAID)
    with suppress(DataError):
        held[said] = hold_out(whole.facts["key"][said], held_out=share, seed=42)
    return replace(whole, held_out=held)


QUESTIONS = st.sampled_from(["Where is Ann?", "Who has the key?", "What is due at noon?"]) | st.text("abc ", max_size=6)
SAYINGS = st.tuples(QUESTIONS, st.sampled_from(["mill", "wheel", "river"]), st.sampled_from("xyz"), st.booleans())


@given(st.lists(SAYINGS, min_size=2, max_size=30), st.sampled_from([(), ("near-duplicates",), ("contradictions",)]))
def test_a_check_of_the_copy_finds_nothing_to_leave_out(
    rows: list[tuple[str, str, str, bool]], drop: list[str]
) -> None:
    def tools(polluted: bool) -> list[Fields]:
        return [NULLS] if polluted else [{"name": "f", "parameters": {"b": {"type": "string"}}}]

    given_rows = [
        talk(("user", f"{asked} ?"), ("assistant", f"It is the {word} by the long and winding road {n % 4}, {end}."))
        | {"tools": tools(polluted)}
        for n, (asked, word, end, polluted) in enumerate(rows)
    ]
    whole = drawn(subject(*given_rows))
    cleaner = Cleaner(whole, find(whole), drop=drop, split=drawn)
    copy = [dict(fields) for fields in cleaner.fields(rows_of(*given_rows))]
    assert sum(cleaner.dropped.values()) == len(given_rows) - len(copy)
    again = drawn(subject(*copy))
    assert {finding.check for finding in find(again)}.isdisjoint({"duplicates", "leaks", *drop})


def test_a_leak_that_the_first_round_makes_is_left_out_too() -> None:
    """Each round leaves fewer rows, so that fewer are held out; what is trained on instead must not leak either."""
    rows = [alpaca(f"Question {n % 9}?", f"Answer {n} of them.") for n in range(60)]
    whole = drawn(subject(*rows))
    (leaks,) = (finding for finding in find(whole) if finding.check == "leaks")
    once = [row for number, row in enumerate(rows) if number not in leaks.found.rows]
    assert CHECKS["leaks"].find(drawn(subject(*once))), "one round is not enough for these rows"
    cleaner = Cleaner(whole, find(whole), split=drawn)
    copy = [dict(fields) for fields in cleaner.fields(rows_of(*rows))]
    assert len(copy) == cleaner.rows
    assert not CHECKS["leaks"].find(drawn(subject(*copy)))
    assert set(cleaner.dropped) == {"leaks"}


@pytest.mark.parametrize("lines", [(1,), (1, 2, 3), (2, 1)])
def test_a_file_that_changed_since_it_was_checked_gives_no_copy(lines: tuple[int, ...]) -> None:
    rows = [alpaca(f"Where is {name}?", f"{name} is in Elm.") for name in ("Ann", "Bob", "Cid")]
    cleaner = Cleaner(subject(*rows[:2]), [])
    again = rows_of(*rows)
    with pytest.raises(DataError, match=r"rows.jsonl was changed while it was checked"):
        list(cleaner.fields(again[line - 1] for line in lines))
