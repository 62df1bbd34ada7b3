import random
import time
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.data.checks.nearness import (
    _BANDS,
    _DOUBT,
    _FACTORS,
    _POWERS,
    _ROUNDS,
    _ROWS,
    _TERMS,
    NEAR,
    alike,
    normal,
)

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


def plainly_alike(texts: list[str]) -> dict[int, int]:
    """`alike` as it was before it took many texts at once and kept them on disk: one by one, with all in memory."""
    words = [normal(text) for text in texts]
    points = [[ord(letter) for letter in text.ljust(4)] for text in words]
    mixed = [[mix(sum(p * int(f) for p, f in zip(at, _POWERS, strict=False))) for at in windows(ps)] for ps in points]
    signatures = [
        [min((h * int(f) + int(t)) % 2**32 for h in hashes) for f, t in zip(_FACTORS[:, 0], _TERMS[:, 0], strict=True)]
        for hashes in mixed
    ]
    partner: dict[int, int] = {}
    for band in range(_BANDS):
        buckets: dict[tuple[int, ...], list[int]] = {}
        for number, signature in enumerate(signatures):
            if words[number]:
                buckets.setdefault(tuple(signature[band * _ROWS : (band + 1) * _ROWS]), []).append(number)
        for waiting in buckets.values():
            for _ in range(_ROUNDS):
                first, others, waiting = waiting[0], waiting[1:], []
                for other in others:
                    agree = sum(a == b for a, b in zip(signatures[first], signatures[other], strict=True)) / 128
                    if agree < NEAR - _DOUBT:
                        waiting.append(other)
                    elif partner.get(other, len(texts)) > first:
                        a, b = set(mixed[first]), set(mixed[other])
                        if len(a & b) / len(a | b) >= NEAR:
                            partner[other] = first
                        else:
                            waiting.append(other)
                if not waiting:
                    break
    return dict(sorted(partner.items()))


def mix(value: int) -> int:
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        value %= 2**64
        value = (value ^ (value >> shift)) * factor % 2**64
    return value >> 32


def windows(points: list[int]) -> list[list[int]]:
    return [points[n : n + 4] for n in range(len(points) - 3)]


@st.composite
def kindred(draw: st.DrawFn) -> list[str]:
    """Texts of a few kinds, each with a change or two."""
    kinds = draw(st.lists(st.text("abc 中文", min_size=20, max_size=60), min_size=1, max_size=3))
    texts = []
    for _ in range(draw(st.integers(1, 12))):
        text = draw(st.sampled_from(["", "a", *kinds]))
        place = draw(st.integers(0, len(text)))
        texts.append(text[:place] + draw(st.sampled_from(["", "x", "这是"])) + text[place:])
    return texts


@settings(max_examples=25)
@given(kindred(), st.sampled_from([8, 100, 2**12]), st.sampled_from([1, 100, 2**20]))
def test_many_texts_at_once_and_on_disk_have_the_partners_that_they_have_one_by_one(
    texts: list[str], chunk: int, room: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graft.data.checks.nearness._CHUNK", chunk)
        patch.setattr("graft.data.spill._ROOM", room)
        assert alike(texts) == plainly_alike(texts)


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
