"""Ids of a text from those of its words, where the vocabulary proves that no token spans two of them.

The tokenizers of Llama and Llama 2 cut a text nowhere before they merge, so the library merges every text anew, however
often its words were seen. But where no merge makes a token that has a space behind another character, none goes over
the place before a space: a text is a sequence of words, each with the space before it, and the ids of a word are always
the same.
"""

import json
from array import array
from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from typing import Any

import numpy as np
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
        vocab = spec["model"]["vocab"]
        self._begins = np.zeros(max(vocab.values()) + 1, dtype=bool)
        self._begins[[id for token, id in vocab.items() if token.startswith(_SPACE)]] = True
        self._known = {_BARE: b""}

    def takes(self, text: str, *, first: bool) -> bool:
        """Whether `text` is a sequence of short words with one space between them."""
        odd = not text or "  " in text or _SPACE in text or (first and self._prepends and text[0] == " ")
        return not odd and (text.count(" ") + 1) * _MEAN > len(text)

    def look_up(self, texts: Sequence[tuple[str, bool]]) -> tuple[list[str], Callable[[Merged], list[Sequence[int]]]]:
        """For texts that it `takes`, each with whether it is the `first` of a sequence: what the library has to `merge`
        before the ids of each are known, and what then gives them."""
        if len(self._known) > _KEPT:
            self._known = {_BARE: b""}  # the old ones still answer what was asked before
        known, seen, openings = self._known, dict[str, str](), {""}
        found: list[bytes | list[str]] = []
        for text, first in texts:  # one after the other, as what was just split is near at hand
            words = text.split(" ")
            if bare := not (first and self._prepends):
                words[0] = _BARE + words[0]
            try:
                found.append(b"".join(map(known.__getitem__, words)))
            except KeyError:
                found.append(list(map(seen.setdefault, words, words)))  # one copy of each word: they stay near at hand
                if bare:
                    openings.add(words[0])
        alone = [word for word in openings if seen.pop(word, None) is not None and word not in known]
        several = [word for word in seen if word not in known]
        # Many words in one text are sooner done; each begins where a space does.
        spelt = [_SPACE + _SPACE.join(several[at : at + _TOGETHER]) for at in range(0, len(several), _TOGETHER)]
        spelt += [word.removeprefix(_BARE) if word else _SPACE for word in alone]

        def ids(merged: Merged) -> list[Sequence[int]]:
            known.update(zip(several + alone, self._ids_by_word(merged), strict=True))
            packed = (some if isinstance(some, bytes) else b"".join(map(known.__getitem__, some)) for some in found)
            return [array(_ID, some) for some in packed]

        return spelt, ids

    def merge(self, spelt: list[str]) -> Merged:
        return self._library.encode_batch_fast(spelt, add_special_tokens=False)

    def _ids_by_word(self, merged: Sequence[tokenizers.Encoding]) -> list[bytes]:
        if not merged:
            return []
        ids = np.fromiter(chain.from_iterable(encoding.ids for encoding in merged), dtype=_ID)
        begins = self._begins[ids]
        begins[np.cumsum([0, *(len(encoding) for encoding in merged[:-1])])] = True
        packed, ends = ids.tobytes(), [*(np.flatnonzero(begins) * _SIZE).tolist(), len(ids) * _SIZE]
        return [packed[start:stop] for start, stop in pairwise(ends)]


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
