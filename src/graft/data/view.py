"""Token sequences -> cells to look at: every token, what becomes of it, special ones by name."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from graft.data.codec import Codec
from graft.records import TokenSequence

Fate = Literal["trained", "partly", "context", "cut"]
"""What becomes of a token: learned; learned with a share of prompts in the loss; only read; beyond the cutoff."""

_LOST = "\ufffd"
_LONGEST = 8  # tokens that spell one character at most: bytes of UTF-8, and what a tokenizer puts around them


@dataclass(frozen=True, slots=True)
class Cell:
    """One token, or the few that spell one character together.

    Args:
        text: as it stands in the text; of a special token its spelling.
        tokens: how many they are.
    """

    text: str
    fate: Fate
    special: bool = False
    tokens: int = 1


def cells_of(
    sequence: TokenSequence, codec: Codec, decode: Callable[[Sequence[int]], str], *, cutoff: int
) -> list[Cell]:
    """Every token of a sample, in order. The texts of the cells that are not special make up its text.

    Args:
        decode: the text of ids as a continuation; U+FFFD for a character that is not whole.
    """
    return list(_cells(sequence, codec, decode, cutoff))


def _cells(
    sequence: TokenSequence, codec: Codec, decode: Callable[[Sequence[int]], str], cutoff: int
) -> Iterator[Cell]:
    names = {id: text for text, id in codec.special_tokens.items()}
    fates = [_fate(sequence, number, cutoff) for number in range(len(sequence))]
    ids = sequence.ids
    start = 0
    while start < len(ids):
        if ids[start] in names:
            yield Cell(names[ids[start]], fates[start], special=True)
            start += 1
            continue
        stop = start + 1
        text = decode(ids[start:stop])
        while _LOST in text and stop - start < _LONGEST and _goes_on(ids, fates, names, start, stop):
            stop += 1
            text = decode(ids[start:stop])
        if _LOST in text:  # a real one, or half a character: each token by itself
            stop, text = start + 1, decode(ids[start : start + 1])
        yield Cell(text, fates[start], tokens=stop - start)
        start = stop


def _goes_on(ids: Sequence[int], fates: Sequence[Fate], names: dict[int, str], start: int, stop: int) -> bool:
    return stop < len(ids) and fates[stop] == fates[start] and ids[stop] not in names


def _fate(sequence: TokenSequence, number: int, cutoff: int) -> Fate:
    if number >= cutoff:
        return "cut"
    if not sequence.trained[number]:
        return "context"
    return "partly" if sequence.shares and sequence.shares[number] < 1 else "trained"
