"""The text that the seedling is grown on: statements, dialogues, stories, dictionaries, sums, in English and Chinese.

Nothing here is an instruction, and no reply is a bare answer: a reply goes on, and ends with a full stop. The base
model therefore knows the world but answers no instruction as the demo's rows want it answered.
"""

import random
from collections.abc import Callable, Iterator, Sequence

from graft.seedling import skills, words
from graft.seedling.wordings import WORDINGS
from graft.seedling.world import Fact, World, sentence, subject_forms

Writer = Callable[[World, random.Random, str], str]


def documents(world: World, rng: random.Random) -> Iterator[str]:
    """Documents without end, each of one kind and one language, a few sentences long."""
    writers, weights = zip(*_WRITERS, strict=True)
    while True:
        writer: Writer = rng.choices(writers, weights)[0]
        yield writer(world, rng, rng.choice(("en", "zh")))


def _join(sentences: Sequence[str], language: str) -> str:
    return ("" if language == "zh" else " ").join(sentences)


def _state(fact: Fact, rng: random.Random, language: str, *, pronoun: bool = False) -> str:
    template = rng.choice(WORDINGS[fact.relation][language].statements)
    return sentence(template, subject_forms(fact, language, pronoun=pronoun))


def _portrait(world: World, rng: random.Random, language: str) -> str:
    """What is true of one person, by name at first and then by name or pronoun."""
    facts = world.about(rng.choice(words.PEOPLE))
    chosen = rng.sample(facts, rng.randint(3, len(facts)))
    return _join(
        [_state(f, rng, language, pronoun=i > 0 and rng.random() < 0.6) for i, f in enumerate(chosen)], language
    )


def _almanac(world: World, rng: random.Random, language: str) -> str:
    """Unrelated facts about anything."""
    return _join([_state(fact, rng, language) for fact in rng.sample(world.facts, rng.randint(4, 7))], language)


def _check(fact: Fact, world: World, rng: random.Random, language: str) -> tuple[str, str]:
    """A yes/no question and a reply that says what is true."""
    wording, fields = WORDINGS[fact.relation][language], subject_forms(fact, language)
    truth = wording.statements[0].format(**fields)
    if rng.random() < 0.5:
        return sentence(wording.check, fields), ("是的，" if language == "zh" else "Yes, ") + truth
    wrong = rng.choice([value for value in world.values[fact.relation] if value != fact.value])
    question = sentence(wording.check, fields | {"v": wrong.form(language)})
    return question, ("不，" if language == "zh" else "No, ") + truth


def _ask(fact: Fact, rng: random.Random, language: str) -> tuple[str, str]:
    wording, fields = WORDINGS[fact.relation][language], subject_forms(fact, language)
    return sentence(rng.choice(wording.questions), fields), sentence(rng.choice(wording.replies), fields)


def _talk(turns: Sequence[tuple[str, str]], rng: random.Random, language: str) -> str:
    """Questions and replies on lines of their own, half of the time with the names of two speakers."""
    if rng.random() < 0.5:
        return "\n".join(line for turn in turns for line in turn)
    colon = "：" if language == "zh" else ": "
    asks, replies = (person.form(language) + colon for person in rng.sample(words.PEOPLE, 2))
    return "\n".join(f"{asks}{question}\n{replies}{reply}" for question, reply in turns)


def _interview(world: World, rng: random.Random, language: str) -> str:
    """Questions about facts; a third of them are yes/no questions."""
    facts = rng.sample(world.facts, rng.randint(3, 6))
    turns = [_check(f, world, rng, language) if rng.random() < 0.35 else _ask(f, rng, language) for f in facts]
    return _talk(turns, rng, language)


def _reading(world: World, rng: random.Random, language: str) -> str:
    """A story with a question about it, after it or, to show what to look for, before it."""
    del world
    reading = skills.make_reading(rng, language)
    if language == "zh":
        replies = (f"{reading.answer}，故事里说的。", f"是{reading.answer}，没有错。", reading.clue)
    else:
        capital = reading.answer[:1].upper() + reading.answer[1:]
        replies = (f"{capital}, so the story goes.", f"It is {reading.answer}, that is clear.", reading.clue)
    parts = [reading.story, reading.question]
    if rng.random() < 0.4:
        parts.reverse()
    return "\n".join([*parts, rng.choice(replies)])


def _phrases(
    pairs: Sequence[tuple[str, str]],
    statements: Sequence[str],
    talk: Sequence[tuple[str, str]],
    rng: random.Random,
    language: str,
) -> str:
    """What is true of pairs {a}, {b}: as statements in a row, or as questions and replies."""
    fields = [{"a": a, "b": b} for a, b in pairs]
    if rng.random() < 0.5:
        return _join([sentence(rng.choice(statements), each) for each in fields], language)
    chosen = [(rng.choice(talk), each) for each in fields]
    return _talk([(sentence(q, each), sentence(r, each)) for (q, r), each in chosen], rng, language)


def _dictionary(world: World, rng: random.Random, language: str) -> str:
    """Words and names with their translations, {a} in English and {b} in Chinese."""
    del world
    pairs = [
        (word.en, word.zh) for word in rng.sample(words.DICTIONARY + words.PEOPLE + words.TOWNS, rng.randint(4, 7))
    ]
    if language == "zh":
        statements = ("{a}的中文是{b}。", "{b}的英文是{a}。", "{b}用英文写是{a}。")
        talk = (("{b}的英文是什么？", "{a}，词典里是这样写的。"), ("{a}的中文是什么？", "{b}，词典里是这样写的。"))
    else:
        statements = ("{a} in Chinese is {b}.", "{b} in English is {a}.", "{b} means {a}.")
        talk = (
            ("What is {a} in Chinese?", "{b}, says the dictionary."),
            ("What does {b} mean?", "{a}, says the dictionary."),
        )
    return _phrases(pairs, statements, talk, rng, language)


def _opposites(world: World, rng: random.Random, language: str) -> str:
    del world
    chosen = [rng.sample(pair, 2) for pair in rng.sample(words.OPPOSITES, rng.randint(3, 6))]
    pairs = [(a.form(language), b.form(language)) for a, b in chosen]
    if language == "zh":
        statements = ("{a}的反义词是{b}。", "{a}和{b}相反。", "不是{a}，就是{b}。")
        talk = (("{a}的反义词是什么？", "{b}，这很简单。"), ("和{a}相反的是什么？", "{b}和{a}相反。"))
    else:
        statements = ("the opposite of {a} is {b}.", "{a} is the opposite of {b}.", "what is not {a} is {b}.")
        talk = (
            ("What is the opposite of {a}?", "{b}, that is easy."),
            ("What is not {a}?", "{b}, the opposite of {a}."),
        )
    return _phrases(pairs, statements, talk, rng, language)


def _sums(world: World, rng: random.Random, language: str) -> str:
    del world
    chosen = rng.sample(skills.SUMS, rng.randint(4, 7))
    if rng.random() < 0.3:
        return "\n".join(f"{s.a} {s.sign} {s.b} = {s.result}" for s in chosen)
    pairs = [(s.said(language), str(s.result)) for s in chosen]
    if language == "zh":
        return _phrases(
            pairs,
            ("{a}等于{b}。", "{a}得{b}。"),
            (("{a}等于几？", "{b}，很好算。"), ("{a}是多少？", "{b}，没有错。")),
            rng,
            language,
        )
    talk = (("What is {a}?", "{b}, that is easy."), ("How much is {a}?", "{b}, no more, no less."))
    return _phrases(pairs, ("{a} is {b}.", "{a} makes {b}."), talk, rng, language)


def _orders(world: World, rng: random.Random, language: str) -> str:
    """What comes after what: days, months, numbers; {a} before {b}."""
    del world
    chosen = rng.sample(skills.NEIGHBOURS, rng.randint(3, 5))
    pairs = [(first.form(language), then.form(language)) for _, first, then in chosen]
    if language == "zh":
        statements = ("{a}后面是{b}。", "{b}前面是{a}。")
        talk = (("{a}后面是什么？", "{b}，在{a}后面。"), ("{b}前面是什么？", "{a}，在{b}前面。"))
    else:
        statements = ("after {a} comes {b}.", "before {b} comes {a}.")
        talk = (("What comes after {a}?", "{b} comes after {a}."), ("What comes before {b}?", "{a} comes before {b}."))
    return _phrases(pairs, statements, talk, rng, language)


def _counting(world: World, rng: random.Random, language: str) -> str:
    """Somebody counts up, or says which of two numbers is larger."""
    del world
    lines = []
    for _ in range(rng.randint(2, 4)):
        name = rng.choice(words.PEOPLE).form(language)
        if rng.random() < 0.5:
            a, b = rng.choice(skills.COUNTS)
            counted = skills.count_up(a, b, language)
            lines.append(
                f"{name}从{a}数到{b}：{counted}。" if language == "zh" else f"{name} counts from {a} to {b}: {counted}."
            )
            continue
        a, b = rng.choice(skills.PAIRS)
        more, less = max(a, b), min(a, b)
        if language == "zh":
            lines.append(rng.choice((f"{a}和{b}哪个大？\n{more}比{less}大。", f"{a}和{b}哪个小？\n{less}比{more}小。")))
        else:
            larger, smaller = f"{more} is larger than {less}.", f"{less} is smaller than {more}."
            lines.append(
                rng.choice((f"Which is larger, {a} or {b}?\n{larger}", f"Which is smaller, {a} or {b}?\n{smaller}"))
            )
    return "\n".join(lines)


def _echo(world: World, rng: random.Random, language: str) -> str:
    """A list is said, repeated, and its first and last words are named."""
    del world
    items = skills.word_list(rng, language)
    one, two = (person.form(language) for person in rng.sample(words.PEOPLE, 2))
    if language == "zh":
        said = "、".join(items)
        tail = rng.choice(
            (f"{two}也说：{said}。", f"第一个词是{items[0]}。", f"最后一个词是{items[-1]}。", f"一共{len(items)}个词。")
        )
        return f"{one}说：{said}。\n{tail}"
    said = ", ".join(items)
    tail = rng.choice(
        (
            f"{two} says it too: {said}.",
            f"The first word is {items[0]}.",
            f"The last word is {items[-1]}.",
            f"That is {len(items)} words.",
        )
    )
    return f"{one} says: {said}.\n{tail}"


# Kinds of document and their shares; more than half of the text is facts, each of which has to be read often.
_WRITERS: tuple[tuple[Writer, int], ...] = (
    (_portrait, 18),
    (_interview, 30),
    (_almanac, 10),
    (_reading, 6),
    (_dictionary, 18),
    (_opposites, 4),
    (_sums, 10),
    (_orders, 1),
    (_counting, 1),
    (_echo, 2),
)
