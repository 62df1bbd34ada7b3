import random
import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.data.checks.nearness import NEAR, alike, normal

ALPHABETS = {
    "latin": "abcdefghijklmnopqrstuvwxyz ",
    "chinese": "".join(map(chr, range(0x4E00, 0x5800))),
    "cyrillic": "абвгдежзийклмнопрстуфхцчшщъыьэюя ",
}


def stretches(text: str) -> set[str]:
    text = normal(text).ljust(4)
    return {text[n : n + 4] for n in range(len(text) - 3)}


def jaccard(one: str, other: str) -> float:
    a, b = stretches(one), stretches(other)
    return len(a & b) / len(a | b)


@pytest.mark.parametrize("alphabet", ALPHABETS.values(), ids=ALPHABETS)
def test_texts_with_a_few_changes_are_found_and_others_are_not(alphabet: str) -> None:
    draw = random.Random(1)
    texts = ["".join(draw.choices(alphabet, k=draw.randint(120, 400))) for _ in range(300)]
    changed = []
    for text in texts:
        letters = list(text)
        for place in draw.sample(range(len(letters)), len(letters) // 80):
            letters[place] = "#"
        changed.append("".join(letters))
    partners = alike([*texts, *changed])
    assert sum(partners.get(300 + number) == number for number in range(300)) >= 297
    assert not [number for number in partners if number < 300]


@given(st.lists(st.text(max_size=40), max_size=12))
def test_a_partner_is_earlier_and_near_whatever_the_texts(texts: list[str]) -> None:
    partners = alike(texts)
    assert partners == alike(texts)
    for number, partner in partners.items():
        assert partner < number
        assert jaccard(texts[partner], texts[number]) >= NEAR
    for number, text in enumerate(texts):
        if normal(text) and normal(text) in map(normal, texts[:number]):
            assert number in partners


def test_case_width_and_space_say_nothing_and_empty_texts_are_like_no_other() -> None:
    assert alike(["Ann lives  in Elm", "ANN lives\nin elm", "Ａnn lives in Elm", "", "  "]) == {1: 0, 2: 0}
    assert alike([]) == {}


def test_a_crowd_of_like_texts_takes_time_by_number_not_by_pairs() -> None:
    """3,000 texts of one template make 4.5 million pairs."""
    texts = [f"The mill of {number} was built by the river, and its wheel turns every day." for number in range(3000)]
    began = time.perf_counter()
    partners = alike(texts)
    assert len(partners) > 2900
    assert time.perf_counter() - began < 20


@pytest.mark.slow
def test_52_000_rows_in_two_scripts_take_less_than_a_minute() -> None:
    draw = random.Random(1)
    words = ["".join(draw.choices(ALPHABETS["latin"][:26], k=draw.randint(2, 9))) for _ in range(4000)]
    texts: list[str] = []
    copies: dict[int, int] = {}
    for number in range(52_000):
        if number % 8 == 7:
            copies[number] = draw.randrange(number)
            text = texts[copies[number]]
            place = draw.randrange(len(text))
            texts.append(f"{text[:place]}#{text[place + 1 :]}")
        elif number % 2:
            texts.append(" ".join(draw.choices(words, k=draw.randint(20, 200))))
        else:
            texts.append("".join(draw.choices(ALPHABETS["chinese"], k=draw.randint(60, 500))))
    began = time.perf_counter()
    partners = alike(texts)
    seconds = time.perf_counter() - began
    assert len(partners.keys() & copies.keys()) > 0.999 * len(copies)
    assert partners.keys() <= copies.keys()
    assert seconds < 60, seconds


def test_marks_in_a_row_take_no_time() -> None:
    text = "a" + "\u0315\u0300" * 300_000
    assert alike([text, f"{text} "]) == {1: 0}


def test_two_ways_to_write_an_accent_are_one_however_long_the_text() -> None:
    text = "Les élèves sont à l'école où naît l'été. " * 50
    assert normal(unicodedata.normalize("NFD", text)) == normal(text)
