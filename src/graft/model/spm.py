"""SentencePiece model -> tokenizers model with the same ids, or not at all.

SentencePiece merges, of all neighbours whose concatenation is a piece, the pair whose piece has the best score, the
leftmost of equals. `tokenizers` merges the pair that comes first in a list. Sorting all pairs by the score of their
piece gives the same order wherever no two pieces share a score; `convert` refuses what it cannot promise, and `prove`
compares the ids of a probe afterwards.
"""

import re
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors

from graft.errors import ModelError

SPACE = "▁"  # U+2581, which SentencePiece writes for a space
MODEL_TYPES = {1: "unigram", 2: "BPE", 3: "word", 4: "char"}
TIKTOKEN_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\s*\n")  # Llama 3 gives its tiktoken file the same name

# What a conversion most easily gets wrong: spaces, characters outside the vocabulary, look-alikes of special pieces.
PROBE = (
    "",
    "a",
    "Hello, world!",
    "The quick brown fox jumps over the lazy dog. It's 3.14 o'clock, isn't it?",
    "two  spaces   three    four" + " " * 17 + "seventeen" + " " * 40 + "forty",
    "trailing   ",
    "line\nbreak\n\n\nand\ttab\t\tand\r\nreturn",
    "\n\n",
    "\tx",
    "0123456789 1,234,567.89 2024-02-29 ½ ² ٣",
    "def f(x: int) -> str:\n    if x <= 0:\n        return '<0x0A>'\n    return f\"{x!r}\"  # </s><s><unk>[INST]",
    "https://example.org/a_b?c=d&e=%20#f ======== -------- ........ ////",
    "Ünïcödé naïve façade Straße Ångström İstanbul",
    "Ελληνικά Русский язык עברית العربية हिन्दी ภาษาไทย",
    "人工智能模型。你好，世界！ 漢字 かな カナ 한국어",
    "𠀀𠮷龘𪚥 ꙮ 𓀀",
    "😀👩‍👩‍👧‍👦🇪🇺 ✔️ ∑∫√∞ ≠≤",
    "ﬁ ① Å Å \u00a0nbsp\u2003em\u200bzero\ufeffbom \ufffd",
    "▁literal▁marks",
    "aaaaaaaaaaaaaaaaaaaaaaa ababababababa xyxyxyxyx",
)
LEADING_SPACE_PROBE = (" leading", "   three leading", " ", "    ", " \n ")


class Kind(IntEnum):
    """`SentencePiece.Type` of sentencepiece_model.proto."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


@dataclass(frozen=True, slots=True)
class Piece:
    text: str
    score: float
    kind: Kind


@dataclass(frozen=True, slots=True)
class SpmModel:
    """What a `tokenizer.model` file says, and the library that runs it."""

    path: Path
    pieces: tuple[Piece, ...]
    model_type: str
    normalizes: bool  # rewrites characters, as the rule nmt_nfkc does
    dummy_prefix: bool
    squeezes_spaces: bool
    marks_spaces_before: bool  # a space becomes "▁" in front of its word
    processor: sentencepiece.SentencePieceProcessor


def is_tiktoken(path: Path) -> bool:
    """Whether this `tokenizer.model` is a tiktoken vocabulary, which shares nothing with SentencePiece but the name."""
    with path.open("rb") as file:
        return TIKTOKEN_LINE.fullmatch(file.readline(1024)) is not None


def read(path: Path) -> SpmModel:
    """Read a SentencePiece model.

    Raises:
        ModelError: the file is none.
    """
    content = path.read_bytes()
    try:
        processor = sentencepiece.SentencePieceProcessor(model_proto=content)
    except RuntimeError as error:
        raise ModelError(
            f"{path} is not a SentencePiece model, or not all of it",
            fix="fetch the file again; for a tiktoken vocabulary (Llama 3) give the folder with tokenizer.json",
        ) from error
    # Field numbers and defaults are those of sentencepiece_model.proto.
    model = list(_fields(content))
    trainer = dict(_fields(b"".join(_bytes(value) for number, value in model if number == 2)))
    normalizer = dict(_fields(b"".join(_bytes(value) for number, value in model if number == 3)))
    return SpmModel(
        path=path,
        pieces=tuple(_piece(_bytes(value)) for number, value in model if number == 1),
        model_type=MODEL_TYPES.get(_int(trainer.get(3, 1)), "unknown"),
        normalizes=bool(normalizer.get(2, b"")),
        dummy_prefix=bool(normalizer.get(3, 1)),
        squeezes_spaces=bool(normalizer.get(4, 1)),
        marks_spaces_before=bool(normalizer.get(5, 1)) and not trainer.get(24, 0),
        processor=processor,
    )


def convert(model: SpmModel, *, bos: bool = True) -> Tokenizer:
    """The `tokenizers` BPE model with the ids of `model`.

    Args:
        bos: put BOS before a text, where `model` has one.

    Raises:
        ModelError: `model` does something that such a BPE model cannot repeat exactly.
    """
    if reasons := list(_obstacles(model)):
        raise ModelError(
            f"{model.path} cannot be converted to the same ids: {'; '.join(reasons)}",
            fix="put the tokenizer.json of the model's publisher into the folder",
        )
    unknown = model.processor.unk_id()
    tokenizer = Tokenizer(
        models.BPE(
            vocab={piece.text: id for id, piece in enumerate(model.pieces)},
            merges=_merges(model.pieces),
            unk_token=model.pieces[unknown].text,
            fuse_unk=True,
            byte_fallback=any(piece.kind is Kind.BYTE for piece in model.pieces),
        )
    )
    prefix = [normalizers.Prepend(SPACE)] if model.dummy_prefix else []
    tokenizer.normalizer = normalizers.Sequence([*prefix, normalizers.Replace(" ", SPACE)])
    strip = [decoders.Strip(" ", 1, 0)] if model.dummy_prefix else []
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), *strip]
    )
    tokenizer.add_special_tokens(
        [
            AddedToken(piece.text, normalized=False, special=True)
            for piece in model.pieces
            if piece.kind in (Kind.UNKNOWN, Kind.CONTROL)
        ]
    )
    if bos and (id := model.processor.bos_id()) >= 0:
        text = model.pieces[id].text
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{text} $A", pair=f"{text} $A {text}:1 $B:1", special_tokens=[(text, id)]
        )
    return tokenizer


def prove(model: SpmModel, encode: Callable[[Sequence[str]], list[list[int]]], *, leading_space: bool) -> None:
    """Hold `encode` against SentencePiece on the probe.

    Args:
        encode: ids of texts, each from its beginning, without BOS.
        leading_space: compare texts that begin with a space too.

    Raises:
        ModelError: the ids of a text differ.
    """
    texts = PROBE + (LEADING_SPACE_PROBE if leading_space else ())
    for text, ours, theirs in zip(texts, encode(texts), model.processor.encode(list(texts)), strict=True):
        if ours != theirs:
            raise ModelError(
                f"{model.path}: the text {text!r} has the ids {theirs} by this SentencePiece model, "
                f"but {ours} by the tokenizer that would run",
                fix="tokenizer.json and tokenizer.model are not of the same model: fetch both again, "
                "or take tokenizer.model out of the folder if tokenizer.json is the right one",
            )


def _obstacles(model: SpmModel) -> Iterator[str]:
    if model.model_type != "BPE":
        yield f"its type is {model.model_type}, not BPE"
    if model.normalizes:
        yield "it normalises characters"
    if model.squeezes_spaces:
        yield "it removes repeated spaces"
    if not model.marks_spaces_before:
        yield f"it does not mark a space by {SPACE} before the word"
    for kind in (Kind.USER_DEFINED, Kind.UNUSED):
        if found := [piece.text for piece in model.pieces if piece.kind is kind]:
            yield f"it has {len(found)} pieces of the kind {kind.name}, such as {found[0]!r}"
    by_score: dict[float, str] = {}
    for piece in model.pieces:
        # Equal scores go to the leftmost pair. Sorting keeps this for runs of one character (Llama 2's spaces) only.
        if piece.kind is Kind.NORMAL and len(piece.text) > 1:
            rival = by_score.setdefault(piece.score, piece.text)
            if len(set(rival + piece.text)) > 1 and rival != piece.text:
                yield f"the pieces {rival!r} and {piece.text!r} have the same score"
                return


def _merges(pieces: Sequence[Piece]) -> list[tuple[str, str]]:
    """Every pair of pieces that makes a piece, best score first, then the longest left part.

    The latter makes runs of one character grow from the left, as SentencePiece does.
    """
    scores = {piece.text: piece.score for piece in pieces if piece.kind is Kind.NORMAL}
    merges = [
        (-score, -cut, text[:cut], text[cut:])
        for text, score in scores.items()
        for cut in range(1, len(text))
        if text[:cut] in scores and text[cut:] in scores
    ]
    merges.sort(key=lambda merge: merge[:2])
    return [(left, right) for _, _, left, right in merges]


def _piece(message: bytes) -> Piece:
    fields = dict(_fields(message))
    (score,) = struct.unpack("<f", _bytes(fields.get(2, bytes(4))))
    return Piece(_bytes(fields.get(1, b"")).decode(), score, Kind(_int(fields.get(3, 1))))


def _fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a protobuf message: numbers as int, everything else as its bytes.

    Twenty lines of the wire format (https://protobuf.dev/programming-guides/encoding) spare a dependency.
    """
    at = 0

    def varint() -> int:
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 0x7F) << shift
            shift += 7
            if byte < 0x80:
                return value

    while at < len(message):
        number, wire_type = divmod(varint(), 8)
        if wire_type == 0:
            yield number, varint()
            continue
        size = {1: 8, 5: 4}[wire_type] if wire_type != 2 else varint()
        yield number, message[at : at + size]
        at += size


def _int(value: int | bytes) -> int:
    assert isinstance(value, int), "SentencePiece has read this file, so its fields have their types"
    return value


def _bytes(value: int | bytes) -> bytes:
    assert isinstance(value, bytes), "SentencePiece has read this file, so its fields have their types"
    return value
