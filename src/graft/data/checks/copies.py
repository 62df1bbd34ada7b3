"""Rows that say what others say: copies, rows that leak from training into measuring, and contradictions."""

import numpy as np
from numpy.typing import NDArray

from graft.data.checks.contract import ASKED, FOREIGN, SAID, Found, Places, Subject, check, counted
from graft.data.checks.groups import Numbers, first_of
from graft.data.checks.nearness import NEAR


@check("duplicates", "warning", dropped=True)
def duplicates(subject: Subject) -> Found | None:
    numbers = same(subject)
    rows = Places(numbers, lambda place: f"as {subject.source(subject.copied[numbers[place]])}")
    what = f"{counted(len(rows))} with exactly the text of an earlier one"
    return Found(what, "--fix keeps the first of each; to take rows more often, use data.mix", rows) if rows else None


@check("near-duplicates", "warning")
def near_duplicates(subject: Subject) -> Found | None:
    later = np.flatnonzero(subject.near < len(subject))
    trained = ~(subject.held_out[later] | subject.held_out[subject.near[later]])
    numbers = later[trained & (subject.copied[later] == later)]
    rows = Places(numbers, lambda place: f"nearly as {subject.source(subject.near[numbers[place]])}")
    what = f"{counted(len(rows))} to train on with {NEAR:.0%} or more of the text in common with an earlier one"
    return Found(what, "--fix with --drop near-duplicates keeps the first of each", rows) if rows else None


@check("leaks", "warning", dropped=True)
def leaks(subject: Subject) -> Found | None:
    """Rows to train on that are as good as one to measure on: same text, nearly the same, or the same question."""
    nobody = len(subject)
    crowds = _crowds(subject.near)
    questions = first_of(subject.facts["question"], subject.has(ASKED))
    as_text = np.where(subject.has(SAID), _held(crowds, subject.held_out & subject.has(SAID))[crowds], nobody)
    as_asked = np.where(subject.has(ASKED), _held(questions, subject.held_out & subject.has(ASKED))[questions], nobody)
    # Both may be: then the group that begins later is named, which is the smaller one more often.
    asked = (as_asked < nobody) & ((as_text == nobody) | (questions >= crowds))
    held = np.where(asked, as_asked, as_text)
    numbers = np.flatnonzero((held < nobody) & ~subject.held_out)
    if not len(numbers):
        return None
    rows = Places(numbers, lambda place: f"as {subject.source(held[numbers[place]])}, which is held out")
    what = f"{counted(len(rows))} to train on with the question or the text of a held-out row"
    own = "" if subject.has(FOREIGN).any() else "; `graft data split` keeps equal rows together"
    return Found(what, f"--fix leaves them out of training{own}", rows)


@check("contradictions", "warning")
def contradictions(subject: Subject) -> Found | None:
    among = subject.has(ASKED) & ~subject.has(FOREIGN)
    first = first_of(subject.facts["question"], among)
    own = np.arange(len(subject))
    numbers = np.flatnonzero((first != own) & (first_of(subject.facts["answered"], among) == own))
    rows = Places(
        numbers, lambda place: f"asks what {subject.source(first[numbers[place]])} asks, and answers otherwise"
    )
    what = f"{counted(len(rows))} with the question of an earlier one and another answer"
    fix = "keep the answer that you want; --fix with --drop contradictions keeps the first"
    return Found(what, fix, rows) if rows else None


def same(subject: Subject) -> Numbers:
    """Rows, by number, that say to the letter what an earlier one of their part says; none of a file given to measure
    on."""
    return np.flatnonzero(subject.copied != np.arange(len(subject)))


def _crowds(near: Numbers) -> Numbers:
    """The number of the earliest row (R,) that each is near to, or near to one that is."""
    crowds = np.where(near < len(near), near, np.arange(len(near)))
    while not np.array_equal(further := crowds[crowds], crowds):
        crowds = further
    return crowds


def _held(groups: Numbers, held_out: NDArray[np.bool_]) -> Numbers:
    """The first row (R,) that is held out, of the group that begins with a row; R where none is."""
    first = np.full(len(groups), len(groups), dtype=np.int64)
    numbers = np.flatnonzero(held_out)[::-1]
    first[groups[numbers]] = numbers  # the last that is written stays: the first of the numbers
    return first
