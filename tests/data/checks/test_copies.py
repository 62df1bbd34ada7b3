from tests.data.checks.subjects import alpaca, found, subject, talk

LONG = (
    "The mill by the river was built of grey stone, and its wheel has turned every day since the spring of that year."
)
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


def test_rows_that_cannot_be_read_are_no_copies() -> None:
    broken = {"messages": [{"role": "user", "content": ""}]}
    both = subject(talk(("user", "a"), ("assistant", "b")), broken, broken)
    assert both.near == {}
    assert not found("duplicates", *(row.fields for row in both.rows))


def test_copies_that_are_held_out_together_are_named_as_well() -> None:
    rows = [alpaca("Ask.", "Fine, thank you."), alpaca("Ask.", "Fine, thank you."), alpaca("Else.", "Not at all.")]
    assert list(found("duplicates", *rows, held_out=(0, 1))) == [2], "or a cleaned copy would hold both"
