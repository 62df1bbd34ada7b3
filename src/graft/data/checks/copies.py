"""Rows that say what others say: copies, rows that leak from training into measuring, and contradictions."""

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Iterable

from graft.data.calls import as_json
from graft.data.checks.contract import Found, Seen, Subject, check, counted
from graft.data.checks.nearness import NEAR, normal
from graft.data.keys import written
from graft.records import Message


@check("duplicates", "warning", dropped=True)
def duplicates(subject: Subject) -> Found | None:
    rows = {n: f"as {subject.rows[first].source}" for n, first in same(subject).items()}
    what = f"{counted(len(rows))} with exactly the text of an earlier one"
    return Found(what, "--fix keeps the first of each; to take rows more often, use data.mix", rows) if rows else None


@check("near-duplicates", "warning")
def near_duplicates(subject: Subject) -> Found | None:
    exact = same(subject)
    rows = {
        number: f"nearly as {subject.rows[partner].source}"
        for number, partner in subject.near.items()
        if number not in exact and not subject.rows[number].held_out and not subject.rows[partner].held_out
    }
    what = f"{counted(len(rows))} to train on with {NEAR:.0%} or more of the text in common with an earlier one"
    return Found(what, "--fix with --drop near-duplicates keeps the first of each", rows) if rows else None


@check("leaks", "warning", dropped=True)
def leaks(subject: Subject) -> Found | None:
    """Rows to train on that are as good as one to measure on: same text, nearly the same, or the same question."""
    rows = subject.rows
    groups: dict[Hashable, list[int]] = defaultdict(list)
    for number, row in enumerate(rows):
        if row.conversation:
            groups[_root(number, subject.near)].append(number)
            if question := asked(row):
                groups[question].append(number)
    found: dict[int, str] = {}
    for group in groups.values():
        held = next((number for number in group if rows[number].held_out), None)
        if held is not None:
            found |= {n: f"as {rows[held].source}, which is held out" for n in group if not rows[n].held_out}
    if not found:
        return None
    what = f"{counted(len(found))} to train on with the question or the text of a held-out row"
    own = "" if any(row.foreign for row in rows) else "; `graft data split` keeps equal rows together"
    return Found(what, f"--fix leaves them out of training{own}", dict(sorted(found.items())))


@check("contradictions", "warning")
def contradictions(subject: Subject) -> Found | None:
    answers: dict[Hashable, dict[str, int]] = defaultdict(dict)
    rows = {}
    for number, row in enumerate(subject.rows):
        question = None if row.foreign else asked(row)
        if not question:
            continue
        known = answers[question]
        answer = normal(written(row.messages[-1:]))
        if known and answer not in known:
            rows[number] = f"asks what {subject.rows[next(iter(known.values()))].source} asks, and answers otherwise"
        known.setdefault(answer, number)
    what = f"{counted(len(rows))} with the question of an earlier one and another answer"
    fix = "keep the answer that you want; --fix with --drop contradictions keeps the first"
    return Found(what, fix, rows) if rows else None


def same(subject: Subject) -> dict[int, int]:
    """Rows, by number, that say to the letter what an earlier one of their part says, and which; none of a file given
    to measure on."""
    first: dict[tuple[str, bool], int] = {}
    later: dict[int, int] = {}
    for number, row in enumerate(subject.rows):
        if row.conversation and not row.foreign:
            key = _digest(row.messages, row), row.held_out
            if first.setdefault(key, number) != number:
                later[number] = first[key]
    return later


def asked(row: Seen) -> str:
    """What stands before the last answer, but for case and space; "" where nothing is asked."""
    if len(row.messages) < 2 or row.messages[-1].role != "assistant":
        return ""
    return _digest(row.messages[:-1], row, normalised=True)


def _digest(messages: Iterable[Message], row: Seen, *, normalised: bool = False) -> str:
    assert row.conversation
    said = as_json([written(messages), row.conversation.tools])
    return hashlib.sha256((normal(said) if normalised else said).encode()).hexdigest()


def _root(number: int, near: dict[int, int]) -> int:
    while number in near:
        number = near[number]
    return number
