"""The seedling's world: who and what there is, and what is true of them.

world = make_world()
world.facts[0]    Fact(relation="home", subject=Word("Anna", "安娜"), value=Word("Foxton", "狐城"))
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from graft.seedling import words
from graft.seedling.words import Word

WORLD_SEED = 1

PERSON_RELATIONS = {
    "home": words.TOWNS,
    "job": words.JOBS,
    "pet": words.ANIMALS,
    "food": words.FOODS,
    "favourite colour": words.COLOURS,
    "hobby": words.HOBBIES,
}


@dataclass(frozen=True)
class Fact:
    """One thing that is true, e.g. ("home", Anna, Foxton)."""

    relation: str
    subject: Word
    value: Word

    @property
    def key(self) -> str:
        """What is asked, whatever the language and the wording: the relation and the subject, not the value."""
        return f"{self.relation}: {self.subject.en}"


@dataclass(frozen=True)
class World:
    """All facts, and for every relation the values that it can have (from which wrong guesses are drawn)."""

    facts: tuple[Fact, ...]
    values: dict[str, tuple[Word, ...]]

    def about(self, subject: Word) -> list[Fact]:
        """The facts of one subject, in the order of the relations."""
        return [fact for fact in self.facts if fact.subject == subject]


def make_world(seed: int = WORLD_SEED) -> World:
    """Draw the world's facts; the same seed gives the same world on every machine."""
    rng = random.Random(seed)
    facts: list[Fact] = []

    def draw(relation: str, subjects: Sequence[Word], values: Sequence[Word]) -> None:
        # Every value is used about equally often, so that no guess is much better than another.
        pool = [values[i % len(values)] for i in range(len(subjects))]
        rng.shuffle(pool)
        facts.extend(Fact(relation, subject, value) for subject, value in zip(subjects, pool, strict=True))

    for relation, values in PERSON_RELATIONS.items():
        draw(relation, words.PEOPLE, values)
    draw("country", words.TOWNS, words.COUNTRIES)
    draw("fame", words.TOWNS, words.WARES)
    draw("mayor", words.TOWNS, rng.sample(words.PEOPLE, len(words.TOWNS)))
    draw("colour", words.THINGS, words.COLOURS)
    draw("place", words.THINGS, words.PLACES)
    legs = [Word(str(n), str(n)) for n in words.LEGS]
    facts.extend(Fact("legs", animal, n) for animal, n in zip(words.ANIMALS, legs, strict=True))
    facts.extend(Fact("fodder", animal, food) for animal, food in zip(words.ANIMALS, words.FODDER, strict=True))

    seen: dict[str, dict[Word, None]] = {}
    for fact in facts:
        seen.setdefault(fact.relation, {})[fact.value] = None
    return World(tuple(facts), {relation: tuple(values) for relation, values in seen.items()})


def subject_forms(fact: Fact, language: str, *, pronoun: bool = False) -> dict[str, str]:
    """The fields {s}, {p}, {v} with which a fact's wordings are filled.

    Args:
        fact: what is said.
        language: "en" or "zh".
        pronoun: say "she" and "her" for a person who has just been named; nothing else has a pronoun.
    """
    value, name = fact.value.form(language), fact.subject.form(language)
    female = fact.subject in words.WOMEN
    if language == "zh":
        subject = ("她" if female else "他") if pronoun else name
        return {"s": subject, "p": subject + "的", "v": value}
    if pronoun:
        return {"s": "she" if female else "he", "p": "her" if female else "his", "v": value}
    article = {"colour": "the ", "place": "the ", "legs": "a ", "fodder": "a "}.get(fact.relation, "")
    return {"s": article + name, "p": f"{name}'s", "v": value}


def sentence(template: str, fields: dict[str, str]) -> str:
    """`template` filled and begun with a capital letter."""
    text = template.format(**fields)
    return text[:1].upper() + text[1:]
