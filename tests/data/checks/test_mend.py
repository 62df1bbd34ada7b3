import json

from graft.data.checks import clean, find
from tests.data.checks.subjects import alpaca, subject, talk

NULLS = {"name": "f", "parameters": {"a": None, "b": {"type": "string"}}}


def test_a_clean_copy_has_no_refused_rows_no_copies_and_no_nulls() -> None:
    rows = [
        alpaca("Where is Ann?", "She is in Elm.", id=7),
        alpaca("Where is Ann?", "She is in Elm.", id=8),
        alpaca("", "She is in Elm."),
        alpaca("Where is Bob?", "Yes."),
    ]
    whole = subject(*rows)
    cleaned = clean(whole.rows, find(whole))
    assert cleaned.rows == [rows[0], rows[3]]
    assert cleaned.dropped == {"empty": 1, "duplicates": 1}
    assert clean(whole.rows, find(whole), drop=["short-answers"]).rows == [rows[0]]
    assert find(subject(*cleaned.rows)) == [f for f in find(subject(*cleaned.rows)) if f.check == "short-answers"]


def test_nulls_are_taken_out_of_tools_in_whatever_form_they_stand() -> None:
    rows = [talk(("user", "a b"), ("assistant", "c d"), tools=tools) for tools in ([NULLS], json.dumps([NULLS]))]
    whole = subject(*rows)
    cleaned = clean(whole.rows, [])
    assert cleaned.mended == 2
    mended = {"name": "f", "parameters": {"b": {"type": "string"}}}
    assert cleaned.rows[0]["tools"] == [mended]
    assert json.loads(cleaned.rows[1]["tools"]) == [mended]
    assert rows[0]["tools"] == [NULLS], "the original is not touched"


def test_rows_of_a_file_to_measure_on_are_no_part_of_the_copy() -> None:
    from dataclasses import replace

    from graft.data.checks import Subject

    whole = subject(alpaca("Where is Ann?", "She is in Elm."), alpaca("Where is Ann?", "She is in Elm."))
    rows = [whole.rows[0], replace(whole.rows[1], held_out=True, foreign=True)]
    cleaned = clean(rows, find(Subject(rows, 1024)))
    assert (cleaned.rows, cleaned.dropped) == ([], {"leaks": 1})
