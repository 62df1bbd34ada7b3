"""ROUGE-L: how much of what one text says, in its order, another says too."""

import re

from rapidfuzz.distance import LCSseq

# A word of letters and digits; or one character of a script that writes no spaces between words, where the character
# is the unit: Han, kana, Hangul, Thai.
_WORD = re.compile(
    r"[぀-ヿ㐀-䶿一-鿿豈-﫿\U00020000-\U0003ffff가-힯฀-๿]"
    r"|[^\W_぀-ヿ㐀-䶿一-鿿豈-﫿\U00020000-\U0003ffff가-힯฀-๿]+"
)


def words(text: str) -> list[str]:
    """The units that ROUGE compares, in lower case: words, and single characters of Chinese and its like."""
    return _WORD.findall(text.lower())


def rouge_l(reference: str, answer: str) -> float:
    """ROUGE-L F1 (Lin 2004): of the longest common subsequence of words, in 0..1.

    Texts without a word, such as "!" or "+", are compared as they are.
    """
    expected, given = words(reference), words(answer)
    if not expected or not given:
        return float(reference.strip() == answer.strip())
    common = LCSseq.similarity(expected, given)
    return 2 * common / (len(expected) + len(given))
