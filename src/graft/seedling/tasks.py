"""The demo's instruction data: Alpaca rows with one right answer each, in English and Chinese.

The held-out rows are apart: a row has a key that names what it asks for (the relation and the subject of a fact, the
two numbers of a sum, the story), the same in both languages and all wordings, and no key is on both sides.
"""

import json
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from graft.seedling import skills, words
from graft.seedling.asks import ASKS
from graft.seedling.world import PERSON_RELATIONS, World, make_world, sentence, subject_forms

TASKS_SEED = 2
LANGUAGES = ("en", "zh")
HELD_OUT_FACTS = 6  # one fact of so many, of each relation, is asked for in held-out rows alone
FACT_KINDS = ("person", "world")

Maker = Callable[[World, random.Random], Iterator["Task"]]


@dataclass(frozen=True)
class Task:
    """One Alpaca row, its kind (a key of `KINDS`), and the key of what it asks for."""

    kind: str
    key: str
    instruction: str
    input: str
    output: str

    def row(self) -> dict[str, str]:
        """The row as Alpaca writes it."""
        return {"instruction": self.instruction, "input": self.input, "output": self.output}


def make_tasks(seed: int = TASKS_SEED) -> tuple[list[Task], list[Task]]:
    """All tasks of the demo, as (train, held out); the same seed gives the same tasks on every machine."""
    rng = random.Random(seed)
    world = make_world()
    tasks = {kind: list(make(world, rng)) for kind, (make, _, _) in KINDS.items()}
    apart: set[str] = set()
    for fact_keys in _by_relation(world).values():
        apart.update(rng.sample(fact_keys, round(len(fact_keys) / HELD_OUT_FACTS)))
    for kind, (_, _, held) in KINDS.items():
        if kind not in FACT_KINDS:
            keys = list(dict.fromkeys(task.key for task in tasks[kind]))
            apart.update(rng.sample(keys, min(held, len(keys) // 8)))

    train: list[Task] = []
    held_out: list[Task] = []
    for kind, (_, most, held) in KINDS.items():
        rng.shuffle(tasks[kind])
        held_out.extend(_one_a_key_first([task for task in tasks[kind] if task.key in apart])[:held])
        train.extend(_unlike([task for task in tasks[kind] if task.key not in apart])[:most])
    rng.shuffle(train)
    rng.shuffle(held_out)
    return train, held_out


def write_rows(path: Path, tasks: Sequence[Task]) -> None:
    """Write the rows of `tasks`, one JSON object a line."""
    lines = (json.dumps(task.row(), ensure_ascii=False) + "\n" for task in tasks)
    path.write_text("".join(lines), encoding="utf-8")


def _by_relation(world: World) -> dict[str, list[str]]:
    keys: dict[str, list[str]] = {}
    for fact in world.facts:
        keys.setdefault(fact.relation, []).append(fact.key)
    return keys


def _unlike(tasks: list[Task]) -> list[Task]:
    """`tasks` without those that ask the same again."""
    return list({(task.instruction, task.input): task for task in tasks}.values())


def _one_a_key_first(tasks: list[Task]) -> list[Task]:
    """`tasks` with one of every key ahead of the others, so that few held-out rows ask for the same thing."""
    first = {task.key: task for task in reversed(tasks)}
    return list(first.values()) + [task for task in _unlike(tasks) if task is not first[task.key]]


def _task(kind: str, key: str, instruction: str, output: str, given: str = "") -> Task:
    return Task(kind, f"{kind}: {key}", instruction, given, output[:1].upper() + output[1:])


def _facts(world: World, rng: random.Random, *, person: bool) -> Iterator[Task]:
    """Every fact in both languages; those about people, whose relations are many, in two ways."""
    for fact in world.facts:
        if (fact.relation in PERSON_RELATIONS) != person:
            continue
        for language in LANGUAGES:
            fields = subject_forms(fact, language)
            for ask in rng.sample(ASKS[fact.relation][language], 2):
                yield Task(
                    "person" if person else "world",
                    fact.key,
                    sentence(ask, fields),
                    "",
                    sentence("{v}", fields),
                )


def _translations(world: World, rng: random.Random) -> Iterator[Task]:
    """Every word both ways, asked in both languages; half of the time the word comes as the input."""
    del world
    to_chinese = ("Translate into Chinese: {0}", "What is {0} in Chinese?", "把{0}翻译成中文。")
    to_english = ("Translate into English: {0}", "{0}的英文是什么？", "把{0}翻译成英文。")
    for word in words.DICTIONARY:
        for asks, plain, to, given, answer in (
            (to_chinese, ("Translate into Chinese.", "翻译成中文。"), "zh", word.en, word.zh),
            (to_english, ("Translate into English.", "翻译成英文。"), "en", word.zh, word.en),
        ):
            key = f"{word.en} to {to}"
            yield _task("translation", key, rng.choice(asks).format(given), answer)
            plain = (
                ("Translate into Chinese.", "翻译成中文。")
                if to == "zh"
                else ("Translate into English.", "翻译成英文。")
            )
            yield _task("translation", key, rng.choice(plain), answer, given)


def _opposites(world: World, rng: random.Random) -> Iterator[Task]:
    """Every word with an opposite in both languages, once with the word as the input."""
    del world
    asks = {
        "en": ("What is the opposite of {0}?", "Name the opposite of {0}."),
        "zh": ("{0}的反义词是什么？", "请说出{0}的反义词。"),
    }
    plain = {"en": "Name the opposite.", "zh": "说出反义词。"}
    for pair in words.OPPOSITES:
        for word, other in (pair, pair[::-1]):
            for language in LANGUAGES:
                given, answer = word.form(language), other.form(language)
                yield _task("opposite", word.en, rng.choice(asks[language]).format(given), answer)
                yield _task("opposite", word.en, plain[language], answer, given)


def _sums(world: World, rng: random.Random) -> Iterator[Task]:
    del world
    asks = {"en": ("What is {0}?", "Work out {0}."), "zh": ("{0}等于几？", "请计算{0}。")}
    for each in skills.SUMS:
        for language in LANGUAGES:
            instruction = rng.choice(asks[language]).format(each.said(language))
            yield _task("sum", f"{each.a} {each.sign} {each.b}", instruction, str(each.result))


# Kind: (maker, most rows to train on, held-out rows). 200 held-out rows give an exact match to about +-4 points.
KINDS: dict[str, tuple[Maker, int, int]] = {
    "person": (partial(_facts, person=True), 560, 90),
    "world": (partial(_facts, person=False), 360, 40),
    "translation": (_translations, 480, 40),
    "opposite": (_opposites, 120, 10),
    "sum": (_sums, 300, 20),
}
