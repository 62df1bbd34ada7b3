from dataclasses import replace

import numpy as np
import pytest

from graft.data.checks import CHECKS, FAULTY, SAID, Survey, Terms, find
from graft.data.checks.contract import ASKED, FOREIGN, PLAIN, Places
from graft.data.checks.survey import KEPT
from graft.data.keys import content_key
from graft.records import Source
from tests.data.checks.subjects import alpaca, seen, subject, surveyed, talk


def test_what_is_kept_of_a_row_are_numbers() -> None:
    rows = seen(talk(("user", "a b"), ("assistant", "c d")), talk(("user", "only asks")), {"messages": []})
    whole = surveyed(rows)
    assert [whole.source(number) for number in range(3)] == [row.source for row in rows]
    assert whole.facts["tokens"].tolist() == [row.tokens for row in rows]
    assert whole.facts["trained"].tolist() == [sum(facts.trained for facts in row.samples) for row in rows]
    assert whole.facts["flags"].tolist() == [SAID | ASKED, SAID, FAULTY]
    keys = [content_key(row.conversation) if row.conversation else 0 for row in rows]
    assert whole.facts["key"].tolist() == keys
    assert KEPT.itemsize < 100, "bytes a row, of 5 million"
    assert not hasattr(whole, "rows")


def test_plain_text_and_files_to_measure_on_are_told_apart() -> None:
    survey = Survey(Terms(1024))
    for row in seen({"text": "A book."}):
        survey.add(replace(row, source=Source("other.txt", 7)), foreign=True)
    whole = survey.finish()
    assert whole.facts["flags"].tolist() == [SAID | PLAIN | FOREIGN]
    assert whole.held_out.tolist() == [True]
    assert str(whole.source(0)) == "other.txt:7"


@pytest.mark.parametrize("room", [1, 2**20])
def test_what_waits_on_disk_is_told_as_what_waits_in_memory(room: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.data.spill._ROOM", room)
    rows = [alpaca("Ask.", "Yes."), alpaca("Ask.", "Yes."), alpaca("Mail me@site.org now.", "That is \ufffd done."), {}]
    told = {finding.check: dict(finding.places()) for finding in find(subject(*rows, held_out=[1]))}
    assert told == {
        "unreadable": {"rows.jsonl:4": "the key `instruction` is missing"},
        "leaks": {"rows.jsonl:1": "as rows.jsonl:2, which is held out"},
        "broken-text": {"rows.jsonl:3": "message 2 (assistant): U+FFFD, where a character was lost"},
        "short-answers": {f"rows.jsonl:{line}": "the answer is 'Yes.'" for line in (1, 2)},
        "e-mail": {"rows.jsonl:3": "message 1 (user): m...@site.org"},
    }


def test_only_the_checks_that_are_named_see_the_rows() -> None:
    survey = Survey(Terms(1024), checks=[CHECKS["short-answers"]])
    for row in seen(alpaca("Ask.", "Yes.")):
        survey.add(row)
    assert list(survey.finish().looked) == ["short-answers"]


def test_places_are_a_mapping_that_says_what_is_asked_for() -> None:
    places = Places(np.array([2, 5]), ["two", "five"].__getitem__)
    assert dict(places) == {2: "two", 5: "five"}
    assert (list(places), len(places), 5 in places, 4 in places, 9 in places) == ([2, 5], 2, True, False, False)
