from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graft.errors import ModelError
from graft.model import spm
from graft.model.tokenizer import Tokenizer

LLAMA2 = Path(__file__).parents[2] / "../shared/llama2/tokenizer.model"

# Random characters seldom merge: draw from what the vocabulary has, from runs and periods, and from anywhere.
WORDS = [
    "the ",
    "ing",
    "  ",
    " " * 9,
    "==",
    "=",
    "ab",
    "a",
    "aba",
    "\n",
    "\t",
    "1",
    "42",
    "é",
    "Möwen",
    "港口",
    "灯",
    "▁",
    "</s>",
]
texts = st.one_of(st.text(), st.lists(st.sampled_from(WORDS)).map("".join), st.text(alphabet="=a b▁t"))


@pytest.fixture(scope="session")
def model(spm_file: Path) -> spm.SpmModel:
    return spm.read(spm_file)


@pytest.fixture(scope="session")
def tokenizer(spm_file: Path) -> Tokenizer:
    return Tokenizer.from_folder(spm_file.parent)


@given(text=texts)
@settings(max_examples=300, deadline=None)
def test_same_ids_as_sentencepiece(model: spm.SpmModel, tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.encode(text, first=True) == model.processor.encode(text)


def test_same_ids_without_a_prefix_and_without_bytes(train_spm: Callable[..., Path]) -> None:
    file = train_spm(add_dummy_prefix=False, byte_fallback=False, vocab_size=300)
    model, tokenizer = spm.read(file), Tokenizer.from_folder(file.parent)
    for text in [*spm.PROBE, *spm.LEADING_SPACE_PROBE, "☃☃ the ☃"]:
        assert tokenizer.encode(text, first=True) == model.processor.encode(text)


@pytest.fixture(scope="session")
def llama2() -> Tokenizer:
    if not LLAMA2.exists():
        pytest.skip("the tokenizer.model of Llama 2 is not here")
    return Tokenizer.from_folder(LLAMA2.parent)


def test_same_ids_as_llama2(llama2: Tokenizer) -> None:
    reference = spm.read(LLAMA2).processor

    @given(text=texts)
    @settings(max_examples=200, deadline=None)
    def same(text: str) -> None:
        assert llama2.encode(text, first=True) == reference.encode(text)

    same()


def test_known_ids_of_llama2(llama2: Tokenizer) -> None:
    assert (llama2.bos_id, llama2.eos_id, llama2.vocab_size) == (1, 2, 32000)
    assert llama2.encode("Hello this is a test", first=True) == [15043, 445, 338, 263, 1243]
    # The prefix and 20 spaces: a piece for every run of up to 16, filled from the left.
    assert llama2.encode(" " * 20, first=True) == [462, 418]


def test_reads_what_the_library_reads(model: spm.SpmModel) -> None:
    for id, piece in enumerate(model.pieces):
        assert piece.text == model.processor.id_to_piece(id)
        assert piece.score == model.processor.get_score(id)
        assert (piece.kind is spm.Kind.BYTE) == model.processor.is_byte(id)
        assert (piece.kind is spm.Kind.CONTROL) == model.processor.is_control(id)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"model_type": "unigram", "vocab_size": 400}, "its type is unigram, not BPE"),
        ({"normalization_rule_name": "nmt_nfkc"}, "it normalises characters"),
        ({"remove_extra_whitespaces": True}, "it removes repeated spaces"),
        ({"treat_whitespace_as_suffix": True}, "does not mark a space by ▁ before the word"),
        ({"user_defined_symbols": "<sep>"}, "1 pieces of the kind USER_DEFINED, such as '<sep>'"),
    ],
)
def test_refuses_what_it_cannot_repeat(train_spm: Callable[..., Path], options: dict[str, object], reason: str) -> None:
    file = train_spm(**options)
    with pytest.raises(ModelError) as error:
        spm.convert(spm.read(file))
    assert str(file) in error.value.what
    assert reason in error.value.what
    assert "tokenizer.json" in error.value.fix


def test_refuses_pieces_of_equal_score(model: spm.SpmModel) -> None:
    """As in models to which a second vocabulary was added: SentencePiece then merges the leftmost pair first."""
    long = [i for i, piece in enumerate(model.pieces) if piece.kind is spm.Kind.NORMAL and len(piece.text) > 1]
    pieces = list(model.pieces)
    for i in long[:2]:
        pieces[i] = spm.Piece(pieces[i].text, 0.0, spm.Kind.NORMAL)
    changed = spm.SpmModel(model.path, tuple(pieces), "BPE", False, True, False, True, model.processor)
    with pytest.raises(ModelError, match="have the same score"):
        spm.convert(changed)


def test_prove_names_the_text_that_differs(model: spm.SpmModel, tokenizer: Tokenizer) -> None:
    spm.prove(model, lambda texts: tokenizer.encode_many(texts, first=True), leading_space=True)
    with pytest.raises(ModelError, match="Hello, world!") as error:
        spm.prove(
            model,
            lambda texts: tokenizer.encode_many([text.replace("world", "word") for text in texts], first=True),
            leading_space=False,
        )
    assert str(model.path) in error.value.what


@pytest.mark.parametrize("keep", [0.0, 0.5, 0.99])
def test_refuses_a_file_that_is_cut_off(spm_file: Path, tmp_path: Path, keep: float) -> None:
    content = spm_file.read_bytes()
    file = tmp_path / "tokenizer.model"
    file.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(ModelError) as error:
        spm.convert(spm.read(file))
    assert str(file) in error.value.what
    assert error.value.fix


def test_tells_tiktoken_from_sentencepiece(spm_file: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"IQ== 0\nIg== 1\n")
    assert spm.is_tiktoken(tmp_path / "tokenizer.model")
    assert not spm.is_tiktoken(spm_file)
