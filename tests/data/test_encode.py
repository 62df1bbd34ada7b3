import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.data import encode_conversation, encode_prompt, template_of
from graft.model import load_tokenizer
from graft.records import Conversation, Message, Source
from graft.seedling import seedling_path
from tests.data.characters import BOS, EOS, FIRST, OPENING, Characters, ids

TEMPLATE = template_of({"prompt_input": "{instruction}|{input}>", "prompt_no_input": "{instruction}>"}, "short")


def conversation(*texts: str, line: int = 1, trained: bool = True, context: str = "") -> Conversation:
    """Questions and answers by turns."""
    messages = [
        Message("assistant", text, trained=trained) if number % 2 else Message("user", text, context=context)
        for number, text in enumerate(texts)
    ]
    return Conversation(tuple(messages), Source("rows.json", line))


def test_ids_and_mask_token_for_token() -> None:
    found = encode_conversation(conversation("Hi", "Yo!", context="c"), TEMPLATE, Characters())
    expected = [
        (BOS, False),
        (OPENING, False),
        *((id, False) for id in ids("Hi|c>")),
        *((id, True) for id in ids("Yo!")),
        (EOS, True),
    ]
    assert list(zip(found.ids, found.trained, strict=True)) == expected
    assert found.source == Source("rows.json", 1)
    assert found.trained_tokens == 4


def test_in_several_turns_every_answer_ends_and_only_trained_ones_are_trained() -> None:
    messages = (
        Message("user", "a", trained=False),
        Message("assistant", "b", trained=False),
        Message("user", "c", trained=False),
        Message("assistant", "d", trained=True),
    )
    found = encode_conversation(Conversation(messages, Source("x", 1)), TEMPLATE, Characters())
    assert list(found.ids) == [BOS, OPENING, *ids("a>b"), EOS, *ids("c>d"), EOS]
    assert [id for id, trained in zip(found.ids, found.trained, strict=True) if trained] == [*ids("d"), EOS]


def test_a_model_without_bos_gets_none() -> None:
    found = encode_conversation(conversation("a", "b"), TEMPLATE, Characters(bos_id=None))
    assert list(found.ids) == [OPENING, *ids("a>b"), EOS]


WORDS = st.text(min_size=1).filter(str.strip)


@given(WORDS, st.text(), WORDS, st.sampled_from([BOS, None]))
def test_the_model_learns_the_answer_and_its_end_after_the_very_prompt_that_it_will_be_asked_with(
    question: str, context: str, answer: str, bos: int | None
) -> None:
    codec = Characters(bos)
    asked = conversation(question, answer, context=context)
    sample = encode_conversation(asked, TEMPLATE, codec)
    prompt = encode_prompt(asked.messages[:1], TEMPLATE, codec)
    assert list(sample.ids[: len(prompt)]) == prompt
    assert not any(sample.trained[: len(prompt)])
    learned = [id for id, trained in zip(sample.ids, sample.trained, strict=True) if trained]
    assert learned.pop() == EOS
    assert "".join(chr(id - FIRST) for id in learned) == answer


# Samples of LENGTH + n tokens: BOS, the opening, "q>", n of the answer, EOS.
def test_prompts_may_have_a_share_in_the_loss() -> None:
    messages = (
        Message("user", "a"),
        Message("assistant", "b", trained=False),
        Message("user", "c", trained=False),
        Message("assistant", "d", trained=True),
    )
    given = Conversation(messages, Source("x", 1), weight=2.0)
    found = encode_conversation(given, TEMPLATE, Characters(), prompt_weight=0.25)
    expected = [(BOS, 0.0), (OPENING, 0.25), *((id, 0.25) for id in ids("a>")), *((id, 0.0) for id in [*ids("b"), EOS])]
    expected += [*((id, 0.0) for id in ids("c>")), *((id, 1.0) for id in [*ids("d"), EOS])]
    assert found.shares is not None
    assert list(zip(found.ids, found.shares, strict=True)) == expected
    assert found.trained == tuple(share > 0 for share in found.shares)
    assert found.weight == 2.0
    all_of_it = encode_conversation(given, TEMPLATE, Characters(), prompt_weight=1)
    assert all_of_it.shares is None
    assert all_of_it.trained == found.trained


def test_messages_that_share_a_stretch_are_told_apart() -> None:
    messages = (
        Message("system", "s", trained=True),
        Message("user", "u", trained=False),
        Message("assistant", "a", trained=True),
    )
    found = encode_conversation(Conversation(messages, Source("x", 1)), TEMPLATE, Characters(), prompt_weight=0.5)
    expected = [(BOS, 0.0), (OPENING, 1.0), *zip(ids("s\n\nu>"), [1.0, 0.5, 0.5, 0.0, 0.5], strict=True)]
    expected += [(ids("a")[0], 1.0), (EOS, 1.0)]
    assert found.shares is not None
    assert list(zip(found.ids, found.shares, strict=True)) == expected


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ((True, False), [("\u2581b", True), ("ri", False), ("ef", False)]),
        ((True, None), [("\u2581b", True), ("ri", True), ("ef", False)]),
        ((False, True), [("\u2581b", False), ("ri", False), ("ef", True)]),
        ((None, True), [("\u2581b", False), ("ri", True), ("ef", True)]),
    ],
)
def test_a_token_of_two_messages_is_learned_unless_one_of_them_must_not_be(
    marks: tuple[bool | None, bool | None], expected: list[tuple[str, bool]]
) -> None:
    said = "{% for message in messages %}{{ message.content }}{% endfor %}"
    answer = "{% if add_generation_prompt %}<s>{% endif %}"
    words = (Message("system", " br", marks[0]), Message("user", "ief", marks[1]))
    tokenizer = load_tokenizer(str(seedling_path()))
    found = encode_conversation(
        Conversation(words, Source("x", 1)), template_of({"jinja": f"<s>x{said}{answer}"}, "plain"), tokenizer
    )
    tokens = tokenizer.hf.convert_ids_to_tokens(list(found.ids))
    assert list(zip(tokens, found.trained, strict=True))[3:] == expected


def test_the_first_token_is_never_trained_as_nothing_predicts_it() -> None:
    found = encode_conversation(conversation("a", "b"), TEMPLATE, Characters(bos_id=None), prompt_weight=1)
    assert found.trained == (False, True, True, True, True)
