"""What becomes of a row's tokens: which are trained, which the cutoff takes, whether the answer ends."""

from typing import Any

import numpy as np

from graft.data.checks.contract import PLAIN, Facts, Found, Places, Seen, Subject, Terms, check, counted, row_check
from graft.data.checks.rows import MEND

_FAR = 10  # times the median length
_LONG = 2048  # tokens; below this no row is long, whatever the others are


@row_check(
    "untrained",
    "refused",
    what="with no token to train on",
    fix=f"{MEND}; `data.train_on` and a message's own `loss` say what is learned",
)
def untrained(row: Seen, _: Terms) -> str:
    if not row.samples or any(facts.trained for facts in row.samples):
        return ""
    return f"{counted(row.samples[0].tokens, 'token')}, and none is trained"


@row_check(
    "endless",
    "refused",
    what="whose answer has no end token behind it under this template",
    fix="take a template that ends each turn with a special token, such as alpaca",
)
def endless(row: Seen, _: Terms) -> str:
    """Answers with no end token behind them, which teach never to stop."""
    answered = row.messages and row.messages[-1].role == "assistant" and row.messages[-1].trained
    return "nothing trained ends the last answer" if answered and any(map(_endless, row.samples)) else ""


def _endless(facts: Facts) -> bool:
    return facts.trained > 0 and not facts.ended


@check("cut", "warning")
def cut(subject: Subject) -> Found | None:
    """Rows above the cutoff, and what they lose."""
    facts, cutoff = subject.facts, subject.terms.cutoff
    numbers = np.flatnonzero((facts["tokens"] > cutoff) & ~subject.has(PLAIN))
    if not len(numbers):
        return None
    whole = int((facts["kept"][numbers] == 0).sum())
    fate = {"drop": "left out", "cut": "cut", "error": "refused by data.too_long=error"}[subject.terms.too_long]
    rows = counted(len(numbers))
    what = f"{rows} longer than data.cutoff {cutoff} and {fate}; {whole} keep none of the answer"
    longest = np.sort(facts["tokens"][facts["tokens"] > 0])
    most = longest[min(len(longest) - 1, round(0.99 * len(longest)))]
    most_of = f", {most} keeps 99% of the rows" if cutoff < most < longest[-1] else ""
    lost = Places(numbers, lambda place: _lost(facts[numbers[place]], cutoff))
    return Found(what, f"data.cutoff {longest[-1]} keeps them all whole{most_of}", lost)


def _lost(row: Any, cutoff: int) -> str:
    lost = int(row["trained"]) - int(row["kept"])
    return f"{row['tokens']} tokens; the cutoff {cutoff} takes {lost} of {row['trained']} trained ones"


@check("very-long", "warning")
def very_long(subject: Subject) -> Found | None:
    """Rows far longer than the others: often several that ran together, or a dump of something."""
    tokens = subject.facts["tokens"]
    lengths = tokens[tokens > 0]
    if not len(lengths):
        return None
    median = float(np.median(lengths))
    limit = max(_LONG, _FAR * median)
    numbers = np.flatnonzero(tokens > limit)
    what = f"{counted(len(numbers))} of more than {limit:.0f} tokens, where the median has {median:.0f}"
    rows = Places(numbers, lambda place: counted(int(tokens[numbers[place]]), "token"))
    return Found(what, "see that none is several rows in one", rows) if rows else None


@check("template", "warning")
def template(subject: Subject) -> Found | None:
    if not subject.terms.mismatch:
        return None
    return Found(subject.terms.mismatch, "leave data.template at auto, unless the base is to learn these words")


@row_check(
    "templated",
    "warning",
    what="with special tokens or a template's own words spelt out, which are plain text there",
    fix="take the template out of the data: it is written around the words, and would stand twice",
)
def templated(row: Seen, terms: Terms) -> str:
    """Words of a template that stand in the data already."""
    text = row.text()
    spelt = sorted(mark for mark in terms.marks if mark in text)
    return f"holds {' '.join(map(repr, spelt))}" if spelt else ""
