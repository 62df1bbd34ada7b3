from graft.data.checks import CHECKS, Seen
from graft.data.checks.contract import Facts
from graft.records import Conversation, Message, Source
from tests.data.checks.subjects import alpaca, found, seen, subject, surveyed, talk


def test_rows_with_nothing_to_learn_are_refused() -> None:
    silent = {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "loss": False}]}
    hits = found("untrained", talk(("user", "a"), ("assistant", "b")), silent, talk(("user", "only asks")))
    assert list(hits) == [2, 3]
    assert "none is trained" in hits[2]


def test_an_answer_whose_end_is_not_learned_is_refused() -> None:
    said = Conversation((Message("user", "a"), Message("assistant", "b", trained=True)), Source("f", 1))
    open_ended = Seen(said.source, said, samples=(Facts(9, 3, 3, ended=False),))
    whole = Seen(said.source, said, samples=(Facts(9, 3, 3, ended=True),))
    result = CHECKS["endless"].find(surveyed([whole, open_ended], template="mine"))
    assert result is not None
    assert list(result.rows) == [1]
    assert "under this template" in result.what
    assert not found("endless", alpaca("Ask.", "Answer."), talk(("user", "a"), ("assistant", "b")))
    said = [
        {"role": "user", "content": "a"},
        {"role": "assistant", "content": "learned"},
        {"role": "user", "content": "and", "loss": True},
        {"role": "assistant", "content": "not learned", "loss": False},
    ]
    assert not found("endless", {"messages": said}), "the last answer is not to be learned"


def test_what_the_cutoff_takes_is_counted_and_the_cutoff_that_keeps_it_is_named() -> None:
    rows = [alpaca("Say it.", "word " * count) for count in (3, 200, 400)]
    lengths = [row.tokens for row in seen(*rows)]
    cutoff = lengths[1] - 10
    result = CHECKS["cut"].find(subject(*rows, cutoff=cutoff))
    assert result is not None
    assert list(result.rows) == [1, 2]
    assert f"the cutoff {cutoff} takes 10 of" in result.rows[1]
    assert f"data.cutoff {lengths[2]} keeps them all whole" in result.fix
    assert "0 keep none of the answer" in result.what
    assert not found("cut", *rows, cutoff=lengths[2])


def test_a_prompt_that_fills_the_cutoff_leaves_no_answer_and_is_counted() -> None:
    result = CHECKS["cut"].find(subject(alpaca("word " * 300, "Yes, it is."), cutoff=64, too_long="cut"))
    assert result is not None
    assert "and cut; 1 keep none of the answer" in result.what


def test_a_document_is_cut_into_samples_and_loses_nothing() -> None:
    assert not found("cut", {"text": "word " * 3000})


def test_rows_far_longer_than_the_others_are_named() -> None:
    rows = [alpaca(f"Ask {n}.", "A short answer.") for n in range(9)]
    hits = found("very-long", *rows, alpaca("Dump it.", "word " * 9000))
    assert list(hits) == [10]
    assert not found("very-long", *rows)


def test_words_of_templates_in_the_data_are_named() -> None:
    marks = frozenset({"<|im_start|>", "### Response:"})
    rows = [alpaca("Ask.", "Fine."), alpaca("<|im_start|>user Ask.", "Fine."), alpaca("Ask.", "### Response: Fine.")]
    assert list(found("templated", *rows, marks=marks)) == [2, 3]


def test_another_template_than_the_models_own_is_said_of_all_rows() -> None:
    result = CHECKS["template"].find(subject(alpaca("Ask.", "Fine."), mismatch="data.template x is not its own"))
    assert result is not None
    assert (result.rows, result.what) == ({}, "data.template x is not its own")
    assert not found("template", alpaca("Ask.", "Fine."))
