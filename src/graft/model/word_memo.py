"""Ids of a text from those of its words, where the vocabulary proves that no token spans two of them.

The tokenizers of Llama and Llama 2 cut a text nowhere before they merge, so the library merges every text anew, however
often its words were seen. But where no merge makes a token that has a space behind another character, none goes over
the place before a space: a text is a sequence of words, each with the space before it, and the ids of a word are always
the same.
"""

import json
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, pairwise
from typing import Any

import tokenizers

_SPACE = "\u2581"  # how SentencePiece writes a space
_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
_PREPEND = {"type": "Prepend", "prepend": _SPACE}
_KEPT = 2**17  # words, about 40 MB; a book has fewer
_MEAN = 12  # characters of a word at most, on average; what is longer, such as Chinese, does not come again
_BARE = " "  # marks a word that begins a text, with no space before it
_ID = "i"  # how the ids of words are packed: what is packed is joined sooner than lists of numbers
_SIZE = array(_ID).itemsize
_TOGETHER = 64  # words that the library is given in one text
_OTHERWISE = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")

Merged = Sequence[tokenizers.Encoding]


class WordMemo:
    """Encodes by remembering words, and gives what the library gives.

    Args:
        spec: the JSON of a tokenizer whose `words_stand_alone`.
    """

    def __init__(self, spec: dict[str, Any]) -> None:
        self._prepends = spec["normalizer"].get("normalizers", [])[:1] == [_PREPEND]
        bare = spec | {
            "normalizer": None,
            "post_processor": None,
            "added_tokens": [],
            "padding": None,
            "truncation": None,
        }
        self._library = tokenizers.Tokenizer.from_str(json.dumps(bare))
        self._begin = {id for token, id in spec["model"]["vocab"].items() if token.startswith(_SPACE)}
        self._known: dict[str, bytes] = {}

    def takes(self, text: str, *, first: bool) -> bool:
        """Whether `text` is a sequence of short words with one space between them."""
        odd = not text or "  " in text or _SPACE in text or (first and self._prepends and text[0] == " ")
        return not odd and (text.count(" ") + 1) * _MEAN > len(text)

    def look_up(self, texts: Sequence[tuple[str, bool]]) -> tuple[list[str], Callable[[Merged], list[Sequence[int]]]]:
        """For texts that it `takes`, each with whether it is the `first` of a sequence: what the library has to `merge`
        before the ids of each are known, and what then gives them."""
        words = [text.split(" ") for text, _ in texts]
        for some, (_, first) in zip(words, texts, strict=True):
            if not (first and self._prepends):
                some[0] = _BARE + some[0]
        if len(self._known) > _KEPT:
            self._known = {}  # the old ones still answer what was asked before
        known = self._known
        found = [_ids_of(some, known) for some in words]
        seen = set(chain.from_iterable(some for some, ids in zip(words, found, strict=True) if ids is None))
        new = [word for word in seen if word not in known]
        alone = [word for word in new if not word or word.startswith(_BARE)]
        several = [word for word in new if word and not word.startswith(_BARE)]
        # Many words in one text are sooner done; each begins where a space does.
        spelt = ["".join(map(_SPACE.__add__, several[at : at + _TOGETHER])) for at in range(0, len(several), _TOGETHER)]
        spelt += [word.removeprefix(_BARE) if word else _SPACE for word in alone]

        def ids(merged: Merged) -> list[Sequence[int]]:
            known.update(zip(several + alone, self._ids_by_word(merged), strict=True))
            packed = (
                b"".join(map(known.__getitem__, some)) if ids is None else ids
                for some, ids in zip(words, found, strict=True)
            )
            return [array(_ID, some) for some in packed]

        return spelt, ids

    def merge(self, spelt: list[str]) -> Merged:
        return self._library.encode_batch_fast(spelt, add_special_tokens=False)

    def _ids_by_word(self, merged: Sequence[tokenizers.Encoding]) -> Iterator[bytes]:
        for encoding in merged:
            ids = encoding.ids
            begins = [place * _SIZE for place, id in enumerate(ids) if place and id in self._begin]
            packed = array(_ID, ids).tobytes()
            yield from (packed[start:stop] for start, stop in pairwise([0, *begins, len(packed)]))


def _ids_of(words: Sequence[str], known: Mapping[str, bytes]) -> bytes | None:
    """The ids of these words in a row; None where one is not known."""
    try:
        return b"".join(map(known.__getitem__, words))
    except KeyError:
        return None


def words_stand_alone(spec: dict[str, Any]) -> bool:
    """Whether the vocabulary and the settings of a tokenizer prove that the ids of a word depend on nothing else."""
    model, normalizer = spec["model"], spec["normalizer"] or {}
    steps = normalizer.get("normalizers") if normalizer.get("type") == "Sequence" else [normalizer]
    if steps not in ([_REPLACE], [_PREPEND, _REPLACE]) or spec["pre_tokenizer"] is not None:
        return False
    if model["type"] != "BPE" or any(model.get(name) for name in _OTHERWISE) or not model.get("byte_fallback"):
        return False
    if any(f"<0x{byte:02X}>" not in model["vocab"] for byte in range(256)):
        return False  # what is not in the vocabulary becomes unknown, and several of these one
    if any(not token["special"] for token in spec["added_tokens"]):
        return False  # it would be found in a text before all else
    made = ("".join(merge) if isinstance(merge, list) else merge.replace(" ", "", 1) for merge in model["merges"])
    return not any(_SPACE in token.lstrip(_SPACE) for token in made)
