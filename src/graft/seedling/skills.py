"""What can be asked about text and numbers that nobody has to remember: scenes to read, sums, orders, lists.

The seedling's pretraining text and the demo's instructions both draw from here, each in its own words.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from graft.seedling import words
from graft.seedling.words import Word

LARGEST = 12


def number(n: int) -> Word:
    """`n` as a word of both languages."""
    return Word(str(n), str(n))


NUMBERS = tuple(number(n) for n in range(2, LARGEST + 1))


class Query(NamedTuple):
    """A question about a scene; `slot` names the field that answers it."""

    slot: str
    en: str
    zh: str


class Scene(NamedTuple):
    """Something that happens once, with the words that each of its fields can take."""

    en: str
    zh: str
    fields: dict[str, tuple[Word, ...]]
    queries: tuple[Query, ...]


SCENES = (
    Scene(
        "{a} puts the {x} in the {y}.",
        "{a}把{x}放进{y}。",
        {"a": words.PEOPLE, "x": words.TRINKETS, "y": words.CONTAINERS},
        (
            Query("y", "Where is the {x} now?", "{x}现在在哪里？"),
            Query("a", "Who puts the {x} away?", "谁把{x}收了起来？"),
            Query("x", "What does {a} put away?", "{a}收起了什么？"),
        ),
    ),
    Scene(
        "{a} gives the {x} to {y}.",
        "{a}把{x}送给{y}。",
        {"a": words.MEN, "x": words.TRINKETS, "y": words.WOMEN},
        (
            Query("y", "Who gets the {x}?", "谁得到了{x}？"),
            Query("a", "Who gives the {x} away?", "谁送出了{x}？"),
            Query("x", "What does {y} get?", "{y}得到了什么？"),
        ),
    ),
    Scene(
        "On {x} {a} goes to the {y}.",
        "{x}{a}去{y}。",
        {"a": words.PEOPLE, "x": words.DAYS, "y": words.PLACES},
        (
            Query("x", "On which day does {a} go out?", "{a}哪一天出门？"),
            Query("y", "Where does {a} go?", "{a}去哪里？"),
            Query("a", "Who goes to the {y}?", "谁去{y}？"),
        ),
    ),
    Scene(
        "{a} buys {x} for {y} coins.",
        "{a}花{y}个硬币买{x}。",
        {"a": words.PEOPLE, "x": words.FOODS, "y": NUMBERS},
        (
            Query("x", "What does {a} buy?", "{a}买了什么？"),
            Query("y", "How many coins does {a} pay?", "{a}花了几个硬币？"),
            Query("a", "Who buys {x}?", "谁买了{x}？"),
        ),
    ),
    Scene(
        "{a} sees a {x} in a {y} hat.",
        "{a}看见一只戴{y}帽子的{x}。",
        {"a": words.PEOPLE, "x": words.ANIMALS, "y": words.COLOURS},
        (
            Query("x", "What does {a} see?", "{a}看见了什么？"),
            Query("y", "What colour is the hat of the {x}?", "{x}的帽子是什么颜色的？"),
            Query("a", "Who sees the {x}?", "谁看见了{x}？"),
        ),
    ),
)


@dataclass(frozen=True)
class Reading:
    """A short story and one question whose answer stands in it; `clue` is the sentence that holds the answer."""

    story: str
    question: str
    answer: str
    clue: str


def make_reading(rng: random.Random, language: str) -> Reading:
    """A story of two or three scenes of one kind, so that the answer has to be looked up, not guessed."""
    scene, count = rng.choice(SCENES), rng.randint(2, 3)
    drawn = {name: rng.sample(values, count) for name, values in scene.fields.items()}
    happenings = [{name: drawn[name][i].form(language) for name in drawn} for i in range(count)]
    template = scene.zh if language == "zh" else scene.en
    sentences = [template.format(**fields) for fields in happenings]
    asked, query = rng.randrange(count), rng.choice(scene.queries)
    question = query.zh if language == "zh" else query.en
    return Reading(
        story=("" if language == "zh" else " ").join(sentences),
        question=question.format(**happenings[asked]),
        answer=happenings[asked][query.slot],
        clue=sentences[asked],
    )


@dataclass(frozen=True)
class Sum:
    """`a` and `b` added or, with `sign` "-", subtracted; all numbers are 0 to 18."""

    a: int
    sign: str
    b: int

    @property
    def result(self) -> int:
        """What it comes to."""
        return self.a + self.b if self.sign == "+" else self.a - self.b

    def said(self, language: str) -> str:
        """The sum in words, e.g. "3 plus 4"."""
        word = Word("plus", "加") if self.sign == "+" else Word("minus", "减")
        return f"{self.a}{word.zh}{self.b}" if language == "zh" else f"{self.a} {word.en} {self.b}"


SUMS = tuple(Sum(a, "+", b) for a in range(1, 10) for b in range(1, 10)) + tuple(
    Sum(a, "-", b) for a in range(1, 11) for b in range(1, a + 1)
)

# (what kind of thing, the order they come in); the days and the months go round, the numbers do not.
ORDERS: tuple[tuple[Word, tuple[Word, ...]], ...] = (
    (Word("day", "天"), (*words.DAYS, words.DAYS[0])),
    (Word("month", "月"), (*words.MONTHS, words.MONTHS[0])),
    (Word("number", "数"), tuple(number(n) for n in range(LARGEST + 1))),
)
NEIGHBOURS = tuple((kind, first, then) for kind, order in ORDERS for first, then in pairwise(order))

COUNTS = tuple((a, b) for a in range(1, LARGEST - 1) for b in range(a + 2, min(a + 6, LARGEST) + 1))
PAIRS = tuple((a, b) for a in range(1, LARGEST + 1) for b in range(1, LARGEST + 1) if a != b)


def join_list(items: Sequence[str], language: str) -> str:
    """`items` with the commas of the language."""
    return ("、" if language == "zh" else ", ").join(items)


def count_up(a: int, b: int, language: str) -> str:
    """The numbers from `a` to `b`, e.g. "3, 4, 5"."""
    return join_list([str(n) for n in range(a, b + 1)], language)


def word_list(rng: random.Random, language: str) -> list[str]:
    """Three to five unrelated words."""
    return [word.form(language) for word in rng.sample(words.DICTIONARY, rng.randint(3, 5))]
