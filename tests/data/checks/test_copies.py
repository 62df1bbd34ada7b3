from collections.abc import Callable

from hypothesis import given
from hypothesis import strategies as st

from graft.data.checks import CHECKS
from tests.data.checks.subjects import alpaca, found, subject, talk

LONG = (
    "The mill by the river was built of grey stone, and its wheel has turned every day since the spring of that year."
)
COPIES = ("duplicates", "leaks", "contradictions")
ZH = "这座磨坊建在河边，用灰色的石头砌成，从那年春天起，水车每天都在转动，村里的人都来这里磨面，孩子们在河边玩耍。"


def test_a_row_that_is_said_again_is_a_copy_of_the_first() -> None:
    again = talk(("user", "a"), ("assistant", "b"))
    other = talk(("user", "a"), ("assistant", "b"), tools=[{"name": "f"}])
    assert found("duplicates", again, other, again, again) == {3: "as rows.jsonl:1", 4: "as rows.jsonl:1"}


def test_near_copies_are_found_in_english_and_chinese_and_are_no_exact_ones() -> None:
    rows = [alpaca("Describe it.", LONG), alpaca("Describe it.", LONG.replace("grey", "gray"))]
    rows += [alpaca("描述一下。", ZH), alpaca("描述一下。", ZH.replace("灰色", "白色")), rows[0]]
    assert found("near-duplicates", *rows) == {2: "nearly as rows.jsonl:1", 4: "nearly as rows.jsonl:3"}
    assert list(found("duplicates", *rows)) == [5]


def test_a_training_row_that_is_as_good_as_a_held_out_one_leaks() -> None:
    rows = [
        alpaca("Describe it.", LONG),
        alpaca("Where is Ann?", "She is in Elm."),
        alpaca("Something else altogether?", "Not at all, no."),
        alpaca("Describe it now.", LONG),
        alpaca("where is  ANN?", "In Oak."),
    ]
    hits = found("leaks", *rows, held_out=(3, 4))
    assert list(hits) == [1, 2]
    assert hits[1] == "as rows.jsonl:4, which is held out"
    assert hits[2] == "as rows.jsonl:5, which is held out"
    assert not found("leaks", *rows)


def test_two_answers_to_one_question_contradict() -> None:
    rows = [
        alpaca("Where is Ann?", "She is in Elm."),
        alpaca("Where is Ann?", "she is  in ELM."),
        alpaca("where is ann?", "She is in Oak."),
        alpaca("Where is Ann?", "She is in Elm.", input="At noon."),
    ]
    hits = found("contradictions", *rows)
    assert list(hits) == [3]
    assert "asks what rows.jsonl:1 asks" in hits[3]


def test_the_earlier_turns_are_part_of_the_question() -> None:
    first = talk(("user", "I am Ann."), ("assistant", "Hello."), ("user", "Who am I?"), ("assistant", "Ann."))
    other = talk(("user", "I am Bob."), ("assistant", "Hello."), ("user", "Who am I?"), ("assistant", "Bob."))
    assert not found("contradictions", first, other)


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xyz"), st.booleans(), st.booleans()), max_size=12))
def test_rows_are_grouped_as_when_each_is_held_against_the_others(rows: list[tuple[str, str, bool, bool]]) -> None:
    asked = [LONG[place:] if near else question for place, (question, _, near, _) in enumerate(rows)]
    answers = [answer for _, answer, _, _ in rows]
    held = [number for number, row in enumerate(rows) if row[3]]
    whole = subject(*map(alpaca, asked, answers), held_out=held)
    numbers = range(len(rows))
    found = {name: dict(result.rows) if (result := CHECKS[name].find(whole)) else {} for name in COPIES}

    def first(number: int, same: Callable[[int, int], bool]) -> int:
        return next(other for other in numbers if same(other, number))

    def said_again(one: int, other: int) -> bool:
        return (asked[one], answers[one], one in held) == (asked[other], answers[other], other in held)

    firsts = {number: first(number, said_again) for number in numbers}
    assert found["duplicates"] == {n: f"as rows.jsonl:{f + 1}" for n, f in firsts.items() if f != n}
    crowds = list(numbers)
    for number, partner in enumerate(whole.near.tolist()):
        crowds[number] = crowds[partner] if partner < len(rows) else number
    assert found["leaks"].keys() == {
        number
        for number in numbers
        if number not in held and any(asked[h] == asked[number] or crowds[h] == crowds[number] for h in held)
    }
    for number, what in found["leaks"].items():
        named = next(h for h in held if what == f"as rows.jsonl:{h + 1}, which is held out")
        group = [h for h in held if asked[h] == asked[number]], [h for h in held if crowds[h] == crowds[number]]
        assert named in [min(part) for part in group if part]
    begins = [first(number, lambda one, other: asked[one] == asked[other]) for number in numbers]
    assert found["contradictions"] == {
        number: f"asks what rows.jsonl:{begins[number] + 1} asks, and answers otherwise"
        for number in numbers
        if begins[number] != number
        and (asked[number], answers[number]) not in zip(asked[:number], answers[:number], strict=True)
    }


def test_rows_that_cannot_be_read_are_no_copies() -> None:
    broken = {"messages": [{"role": "user", "content": ""}]}
    rows = [talk(("user", "a"), ("assistant", "b")), broken, broken]
    assert subject(*rows).near.tolist() == [3, 3, 3], "none is near to an earlier one"
    assert not found("duplicates", *rows)


def test_copies_that_are_held_out_together_are_named_as_well() -> None:
    rows = [alpaca("Ask.", "Fine, thank you."), alpaca("Ask.", "Fine, thank you."), alpaca("Else.", "Not at all.")]
    assert list(found("duplicates", *rows, held_out=(0, 1))) == [2], "or a cleaned copy would hold both"
