"""Which text of a pool says nearly what a new one says, by ROUGE-L, without comparing it with each of them.

The index is exact: it passes over no text that ROUGE-L would find. Two texts of m and n words with F over t have more
than t (m + n) / 2 words in common, in any order. So the words that each text shares with the new one are counted with
an inverted index, and the longest common subsequence decides among those that share enough.
"""

from array import array
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray
from rapidfuzz.distance import LCSseq

from graft.data.checks.nearness import normal
from graft.data.rouge import words

_Numbers = NDArray[np.intc]
_Word = tuple[int, int]  # a word, and how often it stood before it in its text: so words that stand twice count twice


class Pool:
    """Texts, and an index of them.

    Args:
        most_alike: the highest ROUGE-L F1 that is not alike, in (0, 1).
    """

    def __init__(self, most_alike: float = 0.7) -> None:
        assert 0 < most_alike < 1
        self._most_alike = most_alike
        self._ids: dict[str, int] = {}
        self._texts: list[list[int]] = []
        self._lengths = array("i")
        self._holders: dict[_Word, array[int]] = defaultdict(lambda: array("i"))
        self._wordless: dict[str, int] = {}
        self._bounds: dict[int, tuple[_Numbers, int]] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def add(self, text: str) -> int:
        """Put `text` in; returns its number."""
        number = len(self._texts)
        said = [self._ids.setdefault(word, len(self._ids)) for word in words(normal(text))]
        if not said:
            self._wordless.setdefault(normal(text), number)
        for word in _counted(said):
            self._holders[word].append(number)
        self._texts.append(said)
        self._lengths.append(len(said))
        return number

    def alike(self, text: str) -> int | None:
        """The first text of the pool whose ROUGE-L with `text` is above `most_alike`; None where there is none."""
        spoken = words(normal(text))
        if not spoken:
            return self._wordless.get(normal(text))
        said = [self._ids.get(word, -1 - place) for place, word in enumerate(spoken)]  # new words are in no text
        needed, fewest = self._bounds_of(len(said))
        for number in self._sharing(said, needed, fewest):
            enough = int(needed[self._lengths[number]])
            if LCSseq.similarity(said, self._texts[number], score_cutoff=enough) >= enough:
                return number
        return None

    def _sharing(self, said: list[int], needed: _Numbers, fewest: int) -> list[int]:
        """Numbers of the texts that have enough words in common with this one, ascending."""
        lists = [self._holders[word] for word in _counted(said) if word in self._holders]
        if len(lists) < fewest:
            return []
        common = np.bincount(np.concatenate([np.frombuffer(holders, np.intc) for holders in lists]))
        numbers = np.flatnonzero(common >= fewest)
        lengths = np.frombuffer(self._lengths, np.intc)[numbers]
        short = lengths < len(needed)  # what is longer needs more words than this text has
        numbers, lengths = numbers[short], lengths[short]
        return [int(number) for number in numbers[common[numbers] >= needed[lengths]]]

    def _bounds_of(self, length: int) -> tuple[_Numbers, int]:
        """For each length of another text, how many words it must share with one of `length` words to be alike, up to
        the longest that can be; and the fewest words that any of them must share."""
        if length not in self._bounds:
            others = range(int(length * 2 / self._most_alike) + 2)
            needed = [_needed(length + other, self._most_alike) for other in others]
            fewest = next(count for other, count in enumerate(needed) if count <= min(length, other))
            self._bounds[length] = np.array(needed, dtype=np.intc), fewest
        return self._bounds[length]


def _needed(total: int, most_alike: float) -> int:
    """Length of the shortest common subsequence whose F1 is above `most_alike`, as floats are compared."""
    common = int(most_alike * total / 2)
    while 2 * common / total <= most_alike:
        common += 1
    return common


def _counted(said: list[int]) -> list[_Word]:
    """Words with how often each stood before."""
    times: dict[int, int] = defaultdict(int)
    counted = []
    for word in said:
        counted.append((word, times[word]))
        times[word] += 1
    return counted
