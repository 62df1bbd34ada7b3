"""Rows that are no conversation, or none that a template can write."""

from itertools import pairwise

from graft.data.checks.contract import Found, Subject, check, counted
from graft.errors import FaultKind
from graft.records import Message

MEND = "mend these rows, or leave them out with --fix"


@check("unreadable", "refused")
def unreadable(subject: Subject) -> Found | None:
    return _faults(subject, "layout", "that cannot be read")


@check("roles", "refused")
def roles(subject: Subject) -> Found | None:
    return _faults(subject, "roles", "with messages out of order, or two system messages")


@check("empty", "refused")
def empty(subject: Subject) -> Found | None:
    return _faults(subject, "empty", "with nothing where words are due")


@check("calls", "refused")
def calls(subject: Subject) -> Found | None:
    return _faults(subject, "calls", "with a tool call that is no JSON, or no call")


@check("characters", "refused")
def characters(subject: Subject) -> Found | None:
    return _faults(subject, "encoding", "with characters that no tokenizer can read")


@check("turns", "warning")
def turns(subject: Subject) -> Found | None:
    """Who speaks when: legal, but seldom meant."""
    rows = {number: fault for number, row in enumerate(subject.rows) if (fault := _odd_turns(row.messages))}
    if not rows:
        return None
    what = f"{counted(len(rows))} where one party speaks twice in a row, the assistant begins, or nobody answers"
    return Found(what, "see that no message is missing", rows)


def _faults(subject: Subject, kind: FaultKind, what: str) -> Found | None:
    rows = {number: str(row.fault) for number, row in enumerate(subject.rows) if row.fault and row.fault.kind == kind}
    return Found(f"{counted(len(rows))} {what}", MEND, rows) if rows else None


def _odd_turns(messages: tuple[Message, ...]) -> str:
    said = [(number, message) for number, message in enumerate(messages, start=1) if message.role != "system"]
    if not said or said[0][1].role == "text":
        return ""
    if said[0][1].role == "assistant":
        return f"message {said[0][0]} (assistant) answers nobody"
    for (_, before), (number, message) in pairwise(said):
        if before.role == message.role != "tool":
            return f"message {number} ({message.role}) follows one of the same role"
    last, message = said[-1]
    return "" if message.role == "assistant" else f"message {last} ({message.role}) is the last, and has no answer"
