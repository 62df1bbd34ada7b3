"""The index decides as ROUGE-L against every text of the pool would."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.data.checks.nearness import normal
from graft.data.rouge import rouge_l
from graft.data.synth.pool import Pool

WORDS = st.sampled_from(["a", "b", "c", "d", "the", "fish", "写", "一", "首", "诗", "的", "!"])
TEXTS = st.lists(WORDS, max_size=24).map(" ".join)


def first_alike(texts: list[str], text: str, most_alike: float) -> int | None:
    return next((n for n, other in enumerate(texts) if rouge_l(normal(other), normal(text)) > most_alike), None)


@given(st.lists(TEXTS, max_size=30), st.sampled_from([0.2, 0.5, 0.6, 0.7, 0.8, 0.95]))
def test_the_index_finds_what_comparing_with_all_finds(texts: list[str], most_alike: float) -> None:
    pool = Pool(most_alike)
    for number, text in enumerate(texts):
        assert pool.alike(text) == first_alike(texts[:number], text, most_alike)
        assert pool.add(text) == number


@given(st.lists(st.text(max_size=30), max_size=12))
def test_it_does_so_whatever_the_texts(texts: list[str]) -> None:
    pool = Pool()
    for number, text in enumerate(texts):
        assert pool.alike(text) == first_alike(texts[:number], text, 0.7)
        pool.add(text)


@pytest.mark.parametrize("script", ["words", "characters"])
def test_it_does_so_for_changed_copies_of_longer_texts(script: str) -> None:
    draw = random.Random(3)
    vocabulary = [chr(0x4E00 + n) if script == "characters" else f"w{n}" for n in range(60)]
    texts: list[str] = []
    pool = Pool()
    found = 0
    for number in range(400):
        said = draw.choices(vocabulary, k=draw.randint(4, 60))
        if texts and number % 2:
            said = draw.choice(texts).split()
            for _ in range(draw.randint(1, len(said) // 2)):
                said[draw.randrange(len(said))] = draw.choice(vocabulary)
        text = " ".join(said)
        expected = first_alike(texts, text, 0.7)
        assert pool.alike(text) == expected
        found += expected is not None
        texts.append(text)
        pool.add(text)
    assert 50 < found < 250, "both decisions are met"


def test_f1_of_exactly_the_bound_is_not_alike() -> None:
    pool = Pool(0.7)
    pool.add("a b c d e f g x y z")
    assert rouge_l("a b c d e f g x y z", "a b c d e f g u v w") == 0.7
    assert pool.alike("a b c d e f g u v w") is None
    assert pool.alike("a b c d e f g x v w") == 0


def test_case_width_and_space_are_no_difference_and_chinese_is_compared_by_character() -> None:
    pool = Pool()
    pool.add("写一首关于春天的诗。")
    pool.add("Ｗrite a poem   about SPRING")
    assert pool.alike("请写一首关于春天的诗") == 0
    assert pool.alike("把这句话翻译成英文") is None
    assert pool.alike("write a poem about spring") == 1
