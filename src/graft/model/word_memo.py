"""Ids of a text from those of its words, where the vocabulary proves that no token spans two of them.

The tokenizers of Llama and Llama 2 cut a text nowhere before they merge, so the library merges every text anew, however
often its words were seen. But where no merge makes a token that has a space behind another character, none goes over
the place before a space: a text is a sequence of words, each with the space before it, and the ids of a word are always
the same.
"""

import json
from collections.abc import Iterator, Sequence
from itertools import chain, pairwise
from typing import Any

import tokenizers

_SPACE = "\u2581"  # how SentencePiece writes a space
_REPLACE = {"type": "Replace", "pattern": {"String": " "}, "content": _SPACE}
_PREPEND = {"type": "Prepend", "prepend": _SPACE}
_KEPT = 2**17  # words, about 40 MB; a book has fewer
_MEAN = 12  # characters of a word at most, on average; what is longer, such as Chinese, does not come again
_TOGETHER = 64  # words that the library is given in one text
_OTHERWISE = ("dropout", "continuing_subword_prefix", "end_of_word_suffix", "ignore_merges")


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
        self._merge: Any = self._library.model.tokenize
        self._begin = {id for token, id in spec["model"]["vocab"].items() if token.startswith(_SPACE)}
        self._behind_space: dict[str, tuple[int, ...]] = {}
        self._at_start: dict[str, tuple[int, ...]] = {}

    def takes(self, text: str) -> bool:
        """Whether `text` is a sequence of short words with one space between them."""
        odd = not text or "  " in text or _SPACE in text or (self._prepends and text[0] == " ")
        return not odd and (text.count(" ") + 1) * _MEAN > len(text)

    def encode_many(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text; it `takes` them all."""
        words = [text.split(" ") for text in texts]
        first = [[] if self._prepends else [some.pop(0)] for some in words]
        self._learn(self._behind_space, set(chain.from_iterable(words)), space=_SPACE)
        self._learn(self._at_start, set(chain.from_iterable(first)), space="")
        start, behind = self._at_start.__getitem__, self._behind_space.__getitem__
        return [
            list(chain(chain.from_iterable(map(start, one)), chain.from_iterable(map(behind, some))))
            for one, some in zip(first, words, strict=True)
        ]

    def _learn(self, known: dict[str, tuple[int, ...]], words: set[str], *, space: str) -> None:
        if len(known) + len(words - known.keys()) > _KEPT:
            known.clear()
        new = words - known.keys()
        alone = new & {""} if space else new
        known.update((word, tuple(token.id for token in self._merge(space + word))) for word in alone)
        several = list(new - alone)
        known.update(zip(several, self._ids_of_several(several), strict=True))

    def _ids_of_several(self, words: Sequence[str]) -> Iterator[tuple[int, ...]]:
        """Ids of words behind a space. Many in one text are sooner done, and begin where a space does."""
        texts = ["".join(map(_SPACE.__add__, words[at : at + _TOGETHER])) for at in range(0, len(words), _TOGETHER)]
        for encoded in self._library.encode_batch_fast(texts, add_special_tokens=False):
            ids = tuple(encoded.ids)
            begins = [place for place, id in enumerate(ids) if id in self._begin]
            yield from (ids[start:stop] for start, stop in pairwise([*begins, len(ids)]))


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
