import json
from typing import Any

import pytest
import tokenizers
from hypothesis import given
from hypothesis import strategies as st

from graft.model.word_memo import WordMemo, words_stand_alone

SPACE = "\u2581"
MERGES = [("a", "b"), (SPACE, "ab"), (SPACE, SPACE), ("ab", "."), ("c", "a"), (SPACE + SPACE, "c"), ("b", "c")]


def spec_of(*, prepends: bool, merges: list[tuple[str, str]] = MERGES, **model: Any) -> dict[str, Any]:
    tokens = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), SPACE, *"abc.,", *("".join(m) for m in merges)]
    steps: list[dict[str, Any]] = [{"type": "Prepend", "prepend": SPACE}] if prepends else []
    steps.append({"type": "Replace", "pattern": {"String": " "}, "content": SPACE})
    plain = tokenizers.models.BPE(
        vocab={token: id for id, token in enumerate(dict.fromkeys(tokens))},
        merges=merges,
        unk_token="<unk>",
        fuse_unk=True,
        byte_fallback=True,
    )
    spec: dict[str, Any] = json.loads(tokenizers.Tokenizer(plain).to_str())
    return spec | {"normalizer": {"type": "Sequence", "normalizers": steps}, "model": spec["model"] | model}


def ids(memo: WordMemo, texts: list[str], *, first: bool = True) -> list[list[int]]:
    new, answer = memo.look_up([(text, first) for text in texts])
    return [list(some) for some in answer(memo.merge(new))]


TEXTS = st.text(st.sampled_from("abc., \n\u00e9\u4e2d") | st.characters(codec="utf-8"), max_size=40)


@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize("prepends", [False, True])
@given(st.lists(TEXTS | st.lists(st.sampled_from(["ab", "b.", "c", "ab.", "ca"])).map(" ".join), max_size=8))
def test_the_ids_are_those_of_the_library(prepends: bool, first: bool, texts: list[str]) -> None:
    spec = spec_of(prepends=prepends)
    assert words_stand_alone(spec)
    memo = WordMemo(spec)
    library = tokenizers.Tokenizer.from_str(json.dumps(spec_of(prepends=prepends and first)))
    taken = [text for text in texts if memo.takes(text, first=first)]
    expected = [library.encode(text).ids for text in taken]
    assert ids(memo, taken, first=first) == expected
    assert ids(memo, taken, first=first) == expected, "the second time all are known"


def test_short_words_with_single_spaces_are_taken() -> None:
    memo = WordMemo(spec_of(prepends=True))
    assert memo.takes("ab ca, b.", first=True)
    assert not any(memo.takes(text, first=True) for text in ["", " ab", "ab  ca", f"ab{SPACE}ca", "a" * 40])


def test_a_full_memo_begins_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.model.word_memo._KEPT", 3)
    spec = spec_of(prepends=True)
    memo, library = WordMemo(spec), tokenizers.Tokenizer.from_str(json.dumps(spec))
    for text in ("a b c", "ab ca bc a.", "a b", "c, b, a, ab"):
        assert ids(memo, [text, text]) == [library.encode(text).ids] * 2


@pytest.mark.parametrize(
    "change",
    [
        {"merges": [*MERGES, ("a", SPACE)]},
        {"dropout": 0.1},
        {"ignore_merges": True},
        {"byte_fallback": False},
        {"end_of_word_suffix": "</w>"},
    ],
)
def test_where_words_may_not_stand_alone_nothing_is_remembered(change: dict[str, Any]) -> None:
    assert not words_stand_alone(spec_of(prepends=True, **change))


def test_a_tokenizer_that_cuts_or_finds_texts_first_is_left_to_the_library() -> None:
    spec = spec_of(prepends=True)
    token = {"id": 300, "content": "ab c", "special": False}
    assert not words_stand_alone(spec | {"added_tokens": [token]})
    assert words_stand_alone(spec | {"added_tokens": [token | {"special": True}]})
    assert not words_stand_alone(spec | {"pre_tokenizer": {"type": "Whitespace"}})
    assert not words_stand_alone(spec | {"normalizer": None})
