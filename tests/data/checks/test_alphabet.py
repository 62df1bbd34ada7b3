from hypothesis import given

from graft.data.checks import Alphabet
from tests.data.checks.subjects import alpaca, found, tokenizer
from tests.data.test_oracles import SCRIPTS


def through(text: str) -> str:
    return tokenizer().decode(tokenizer().encode(text, first=False))


def test_what_becomes_of_a_character_is_named() -> None:
    assert list(Alphabet(str.lower).altered("The End")) == ["U+0045 becomes 'e'", "U+0054 becomes 't'"]
    assert list(Alphabet(lambda text: text.replace("x", "")).altered("axe")) == ["U+0078 becomes ''"]


def test_a_character_is_tried_once() -> None:
    tried = []

    def kept(text: str) -> str:
        tried.append(text)
        return text.upper() if "b" in text else text

    alphabet = Alphabet(kept)
    assert [list(alphabet.altered(text)) for text in ("cab", "cab", "c")] == [["U+0062 becomes 'ABA'"]] * 2 + [[]]
    assert len(tried) == 3


@given(SCRIPTS)
def test_a_text_without_such_characters_comes_back(text: str) -> None:
    altered = list(Alphabet(through).altered(text))
    assert bool(altered) == (through(text) != text)
    assert altered in ([], ["U+2581 becomes ' '"])


def test_rows_are_named_with_the_characters() -> None:
    rows = alpaca("Ask.", "Fine."), alpaca("Ask.", "A bar: \u2581\u2581."), alpaca("\u2581?", "中文 🙂")
    assert found("altered", *rows, alphabet=Alphabet(through)) == {
        2: "message 2 (assistant): U+2581 becomes ' '",
        3: "message 1 (user): U+2581 becomes ' '",
    }


def test_of_many_characters_the_first_are_named() -> None:
    (what,) = found("altered", alpaca("Ask.", "abcdefgh"), alphabet=Alphabet(lambda text: "a")).values()
    assert what.startswith("message 1 (user): U+002E becomes '', ")
    (what,) = found("altered", alpaca("a", "abcdefgh"), alphabet=Alphabet(lambda text: "aaa")).values()
    assert what.count("becomes") == 5
    assert what.endswith("and 2 more")
