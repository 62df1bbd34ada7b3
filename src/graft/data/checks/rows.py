"""Rows that are no conversation, or none that a template can write."""

from itertools import pairwise

from graft.data.checks.contract import Seen, Terms, row_check
from graft.errors import FaultKind
from graft.records import Message

MEND = "mend these rows, or leave them out with --fix"


def _fault_check(name: str, kind: FaultKind, what: str, fix: str = MEND) -> None:
    """Register a check for rows with a fault of this kind."""

    def look(row: Seen, _: Terms) -> str:
        return str(row.fault) if row.fault and row.fault.kind == kind else ""

    row_check(name, "refused", what=what, fix=fix)(look)


_fault_check("unreadable", "layout", "that cannot be read")
_fault_check("roles", "roles", "with messages out of order, or two system messages")
_fault_check("empty", "empty", "with nothing where words are due")
_fault_check("calls", "calls", "with a tool call that is no JSON, or no call")
_fault_check("characters", "encoding", "with characters that no tokenizer can read")
_fault_check(
    "unwritable",
    "template",
    "that the template cannot write",
    "mend the template, or take another data.template; --fix leaves the rows out that it cannot write",
)


@row_check(
    "turns",
    "warning",
    what="where one party speaks twice in a row, the assistant begins, or nobody answers",
    fix="see that no message is missing",
)
def turns(row: Seen, _: Terms) -> str:
    """Who speaks when: legal, but seldom meant."""
    return _odd_turns(row.messages)


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
