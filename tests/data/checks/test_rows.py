from typing import Any

import pytest

from graft.data.checks import CHECKS
from tests.data.checks.subjects import Fields, found, talk

GOOD = talk(("user", "Where does Ann live?"), ("assistant", "Ann lives in Elm."))


@pytest.mark.parametrize(
    ("name", "row", "said"),
    [
        ("unreadable", {"messages": "no"}, "not JSON"),
        ("unreadable", {**GOOD, "weight": -1}, "the weight -1 is not above 0"),
        ("roles", talk(("user", "a b"), ("system", "c d"), ("assistant", "e f")), "message 2 (system) comes late"),
        ("roles", talk(("system", "a"), ("system", "b"), ("user", "c")), "message 2 (system) comes late"),
        ("roles", talk(("user", "a b"), ("tool", "c"), ("assistant", "d e")), "answers no call"),
        ("roles", talk(("narrator", "a b")), "the role `narrator`"),
        ("empty", talk(("user", "a b"), ("assistant", "  ")), "message 2: `content` is empty"),
        ("empty", {"messages": []}, "`messages` is empty"),
        ("characters", talk(("user", "a \ud83d b"), ("assistant", "c d")), "half a surrogate pair"),
    ],
)
def test_a_row_that_is_no_conversation_is_refused_by_the_check_of_its_fault(name: str, row: Fields, said: str) -> None:
    hits = found(name, GOOD, row, GOOD)
    assert list(hits) == [2]
    assert said in hits[2]
    assert CHECKS[name].severity == "refused"
    others = {"unreadable", "roles", "empty", "characters", "calls"} - {name}
    assert not any(found(other, GOOD, row) for other in others)


@pytest.mark.parametrize(
    "call",
    [{"arguments": "{}"}, {"name": "f", "arguments": "{broken"}, {"name": "f", "arguments": [1]}, "f()", {"name": " "}],
)
def test_a_call_that_is_no_call_is_refused(call: Any) -> None:
    messages = [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    assert list(found("calls", GOOD, {"messages": messages})) == [2]


def test_a_function_call_of_sharegpt_that_is_no_json_is_refused() -> None:
    row = {"conversations": [{"from": "human", "value": "a b"}, {"from": "function_call", "value": "{'name': 'f'}"}]}
    assert "the call is not JSON" in found("calls", row)[1]


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ((("user", "a"), ("user", "b"), ("assistant", "c")), "message 2 (user) follows one of the same role"),
        ((("user", "a"), ("assistant", "b"), ("assistant", "c")), "message 3 (assistant) follows"),
        ((("assistant", "a"), ("user", "b"), ("assistant", "c")), "message 1 (assistant) answers nobody"),
        ((("user", "a"), ("assistant", "b"), ("user", "c")), "message 3 (user) is the last"),
    ],
)
def test_odd_turns_are_a_warning(said: tuple[tuple[str, str], ...], why: str) -> None:
    assert why in found("turns", talk(*said), GOOD)[1]
    assert CHECKS["turns"].severity == "warning"


def test_a_system_message_parallel_answers_of_tools_and_documents_are_no_odd_turns() -> None:
    calls = [{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}]
    tools = [
        {"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": calls},
        {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}, {"role": "assistant", "content": "b"},
    ]  # fmt: skip
    assert not found("turns", talk(("system", "s"), ("user", "a"), ("assistant", "b")), {"messages": tools})
    assert not found("turns", {"text": "A document."})
