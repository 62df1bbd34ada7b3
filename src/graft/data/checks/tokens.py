"""What becomes of a row's tokens: which are trained, which the cutoff takes, whether the answer ends."""

import statistics

from graft.data.checks.contract import Facts, Found, Seen, Subject, check, counted, row_check
from graft.data.checks.rows import MEND

_FAR = 10  # times the median length
_LONG = 2048  # tokens; below this no row is long, whatever the others are


@row_check(
    "untrained",
    "refused",
    what="with no token to train on",
    fix=f"{MEND}; `data.train_on` and a message's own `loss` say what is learned",
)
def untrained(row: Seen) -> str:
    if not row.samples or any(facts.trained for facts in row.samples):
        return ""
    return f"{counted(row.samples[0].tokens, 'token')}, and none is trained"


@row_check(
    "endless",
    "refused",
    what="whose answer has no end token behind it under this template",
    fix="take a template that ends each turn with a special token, such as alpaca",
)
def endless(row: Seen) -> str:
    """Answers with no end token behind them, which teach never to stop."""
    answered = row.messages and row.messages[-1].role == "assistant"
    return "nothing trained ends the last answer" if answered and any(map(_endless, row.samples)) else ""


def _endless(facts: Facts) -> bool:
    return facts.trained > 0 and not facts.ended


@check("cut", "warning")
def cut(subject: Subject) -> Found | None:
    """Rows above the cutoff, and what they lose."""
    rows = {
        number: _lost(row, subject.cutoff)
        for number, row in enumerate(subject.rows)
        if row.tokens > subject.cutoff and row.messages[0].role != "text"
    }
    if not rows:
        return None
    whole = sum(not any(facts.kept for facts in subject.rows[number].samples) for number in rows)
    fate = {"drop": "left out", "cut": "cut", "error": "refused by data.too_long=error"}[subject.too_long]
    what = f"{counted(len(rows))} longer than data.cutoff {subject.cutoff} and {fate}; {whole} keep none of the answer"
    longest = sorted(row.tokens for row in subject.rows if row.tokens)
    most = longest[min(len(longest) - 1, round(0.99 * len(longest)))]
    most_of = f", {most} keeps 99% of the rows" if subject.cutoff < most < longest[-1] else ""
    return Found(what, f"data.cutoff {longest[-1]} keeps them all whole{most_of}", rows)


def _lost(row: Seen, cutoff: int) -> str:
    trained = sum(facts.trained for facts in row.samples)
    lost = trained - sum(facts.kept for facts in row.samples)
    return f"{row.tokens} tokens; the cutoff {cutoff} takes {lost} of {trained} trained ones"


@check("very-long", "warning")
def very_long(subject: Subject) -> Found | None:
    """Rows far longer than the others: often several that ran together, or a dump of something."""
    lengths = [row.tokens for row in subject.rows if row.tokens]
    if not lengths:
        return None
    median = statistics.median(lengths)
    limit = max(_LONG, _FAR * median)
    rows = {n: counted(row.tokens, "token") for n, row in enumerate(subject.rows) if row.tokens > limit}
    what = f"{counted(len(rows))} of more than {limit:.0f} tokens, where the median has {median:.0f}"
    return Found(what, "see that none is several rows in one", rows) if rows else None


@check("template", "warning")
def template(subject: Subject) -> Found | None:
    if not subject.mismatch:
        return None
    return Found(subject.mismatch, "leave data.template at auto, unless the base is to learn these words")


@check("templated", "warning")
def templated(subject: Subject) -> Found | None:
    """Words of a template that stand in the data already."""
    rows = {}
    for number, row in enumerate(subject.rows):
        text = row.text()
        if spelt := [mark for mark in sorted(subject.marks) if mark in text]:
            rows[number] = f"holds {' '.join(map(repr, spelt))}"
    if not rows:
        return None
    what = f"{counted(len(rows))} with special tokens or a template's own words spelt out, which are plain text there"
    fix = "take the template out of the data: it is written around the words, and would stand twice"
    return Found(what, fix, rows)
