from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.infer import TextStream
from graft.infer.detokenize import Decoder

REPLACEMENT = "\ufffd"
TEXTS = ["plain", "你好，世界。鱼", "👩‍👩‍👧 🇫🇷 🎉", "e\u0301 a\u0308\u0323 हिन्दी", " a  b\n\n\tc ", "𝔘𠮷\u2028"]
WHOLE = st.text(st.characters(exclude_categories=("Cs",), exclude_characters=REPLACEMENT)) | st.sampled_from(TEXTS)


class Bytes:
    """A token a byte; what is no UTF-8 is replaced."""

    def decode(self, ids: list[int]) -> str:
        return bytes(ids).decode("utf-8", errors="replace")


class Vocabulary:
    """Byte-level tokens that may hold parts of characters, as those of GPT-2 and Llama 3 do."""

    def __init__(self, tokens: Sequence[bytes]) -> None:
        self.tokens = tokens

    def decode(self, ids: list[int]) -> str:
        return b"".join(self.tokens[id] for id in ids).decode("utf-8", errors="replace")


class Fallback:
    """Ids below 256 are bytes, of which a run that is no UTF-8 is replaced byte for byte (Llama 2); others are text."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = words

    def decode(self, ids: list[int]) -> str:
        text, run = "", b""
        for id in [*ids, 256]:
            if id < 256:
                run += bytes([id])
                continue
            try:
                text += run.decode()
            except UnicodeDecodeError:
                text += REPLACEMENT * len(run)
            text, run = text + ["", *self.words][id - 256], b""
        return text


class LeadingSpace:
    """Words with a space before each, which the first loses (SentencePiece); word 0 is special and says nothing."""

    def __init__(self, words: Sequence[str]) -> None:
        self.words = ["", *words]

    def decode(self, ids: list[int]) -> str:
        return "".join(" " + self.words[id] if id else "" for id in ids)[1:]


def streamed(decoder: Decoder, ids: Sequence[int]) -> list[str]:
    """The pieces, one a token and one for the end."""
    stream = TextStream(decoder)
    return [stream.push(id) for id in ids] + [stream.flush()]


@given(WHOLE)
def test_a_character_appears_when_its_last_byte_comes_and_not_before(text: str) -> None:
    pieces = streamed(Bytes(), text.encode())
    assert [piece for piece in pieces if piece] == list(text)
    assert pieces[-1] == ""


@given(st.binary(max_size=30))
def test_any_bytes_give_in_the_end_the_text_of_all(content: bytes) -> None:
    assert "".join(streamed(Bytes(), content)) == Bytes().decode(list(content))


@given(st.text(max_size=8), st.binary(max_size=6), st.text(max_size=8))
def test_rubbish_between_texts_costs_neither_of_them(before: str, rubbish: bytes, after: str) -> None:
    content = before.encode() + rubbish + after.encode()
    assert "".join(streamed(Bytes(), content)) == Bytes().decode(list(content))


@given(st.text(max_size=5), st.integers(1, 3))
def test_an_answer_that_ends_within_a_character_shows_that_it_did(text: str, missing: int) -> None:
    content = text.encode() + "🎉".encode()[:-missing]
    assert "".join(streamed(Bytes(), content)) == text + REPLACEMENT


@given(st.data(), WHOLE)
def test_tokens_may_hold_parts_of_several_characters(data: st.DataObject, text: str) -> None:
    content = text.encode()
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(content) - 1)), max_size=12)))
    edges = [0, *[cut for cut in cuts if cut < len(content)], len(content)]
    tokens = [content[a:b] for a, b in pairwise(edges)]
    pieces = streamed(Vocabulary(tokens), range(len(tokens)))
    assert "".join(pieces) == text
    assert not any(piece.endswith(REPLACEMENT) for piece in pieces)


def test_a_token_that_ends_one_character_and_begins_the_next() -> None:
    tokens = [b"\xf0", b"\x9f", b"\x8e", b"\x89\xe4", b"\xbd", b"\xa0"]
    pieces = streamed(Vocabulary(tokens), range(len(tokens)))
    assert "".join(pieces) == "🎉你"
    assert not any(REPLACEMENT in piece for piece in pieces)


@given(st.lists(st.sampled_from(["a", " b", "鱼"]) | st.sampled_from(["🎉", "你", "é"]).map(str.encode), max_size=8))
def test_bytes_between_the_words_of_a_vocabulary(parts: list[str | bytes]) -> None:
    words = ["a", " b", "鱼"]
    ids = [id for part in parts for id in ([257 + words.index(part)] if isinstance(part, str) else part)]
    pieces = streamed(Fallback(words), ids)
    assert "".join(pieces) == "".join(part if isinstance(part, str) else part.decode() for part in parts)
    assert not any(REPLACEMENT in piece for piece in pieces)


@given(st.lists(st.integers(1, 3), max_size=8))
def test_spaces_between_words_are_kept(ids: list[int]) -> None:
    decoder = LeadingSpace(["one", "two", "鱼"])
    pieces = streamed(decoder, ids)
    assert "".join(pieces) == decoder.decode(ids)
    assert [piece.strip() for piece in pieces if piece] == [decoder.words[id] for id in ids]


@given(st.lists(st.integers(0, 2), max_size=8))
def test_a_token_without_text_takes_no_space_from_the_next(ids: list[int]) -> None:
    decoder = LeadingSpace(["one", "two"])
    assert "".join(streamed(decoder, [1, *ids])) == decoder.decode([1, *ids])


@pytest.mark.parametrize("text", ["", "a\ufffdb", "\ufffd"])
def test_a_replacement_character_that_was_meant_is_shown_at_the_latest_at_the_end(text: str) -> None:
    assert "".join(streamed(Bytes(), text.encode())) == text
