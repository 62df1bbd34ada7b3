import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.data.rouge import rouge_l, words


def longest_common(a: list[str], b: list[str]) -> int:
    """Length of the longest common subsequence, by the textbook's table."""
    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i, x in enumerate(a):
        for j, y in enumerate(b):
            table[i + 1][j + 1] = table[i][j] + 1 if x == y else max(table[i][j + 1], table[i + 1][j])
    return table[-1][-1]


@pytest.mark.parametrize(
    ("reference", "answer", "score"),
    [
        ("police killed the gunman", "police kill the gunman", 0.75),  # Lin 2004, S1 and S2
        ("police killed the gunman", "the gunman kill police", 0.5),  # S3
        ("the cat sat", "the cat sat", 1),
        ("The Cat, sat!", "the cat sat", 1),
        ("a b c d", "a x c", 2 * 2 / 7),
        ("one", "two", 0),
        ("三条鱼。", "三条鱼。", 1),
        ("我喜欢鱼", "我不喜欢鱼", 2 * 4 / 9),
        ("鳕鱼", "鲤鱼", 0.5),
        ("安娜 lives in 北京", "安娜 lives in 上海", 2 * 4 / 12),
        ("さかな", "さかな", 1),
        ("ปลา", "ปลา", 1),
        ("3.5 kg", "3.5 kg", 1),
        ("12", "13", 0),
        ("a b", "", 0),
        ("", "a", 0),
        ("", "", 1),
        ("", " \n", 1),
        ("!", "!", 1),
        ("!", "?", 0),
        ("!", "yes", 0),
        ("+", " + ", 1),
        ("🎉", "🎉", 1),
    ],
)
def test_rouge_l_by_hand(reference: str, answer: str, score: float) -> None:
    assert rouge_l(reference, answer) == pytest.approx(score, abs=1e-12)


WORDS = st.lists(st.sampled_from(["the", "cat", "sat", "on", "a", "mat", "and", "ran"]), min_size=1, max_size=15)


@given(WORDS, WORDS)
def test_rouge_l_of_english_is_the_textbooks(reference: list[str], answer: list[str]) -> None:
    common = longest_common(reference, answer)
    precision, recall = common / len(answer), common / len(reference)
    f1 = 2 * precision * recall / (precision + recall) if common else 0
    assert rouge_l(" ".join(reference), " ".join(answer)) == pytest.approx(f1, abs=1e-12)


@given(st.text(), st.text())
def test_any_texts_score_between_0_and_1_and_a_text_is_itself(reference: str, answer: str) -> None:
    score = rouge_l(reference, answer)
    assert 0 <= score <= 1
    assert rouge_l(answer, reference) == pytest.approx(score)
    assert rouge_l(reference, reference) == 1


@pytest.mark.parametrize(
    ("text", "units"),
    [
        ("Anna's 3 cats_dogs", ["anna", "s", "3", "cats", "dogs"]),
        ("你好World再见", ["你", "好", "world", "再", "见"]),
        ("𠮷野家", ["𠮷", "野", "家"]),
        ("고래", ["고", "래"]),
        ("... !", []),
    ],
)
def test_units(text: str, units: list[str]) -> None:
    assert words(text) == units
