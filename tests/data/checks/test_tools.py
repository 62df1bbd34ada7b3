from typing import Any

import pytest

from graft.data.checks.tools import count_nulls, without_nulls
from tests.data.checks.subjects import Fields, found

SEARCH = {"name": "search", "parameters": {"type": "object", "properties": {"q": {"type": "string"}}}}


def calling(name: str, *tools: Any) -> Fields:
    call = {"name": name, "arguments": {"q": "x"}}
    messages = [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "", "tool_calls": [call]}]
    return {"messages": messages, "tools": list(tools)}


def test_a_call_of_what_is_not_among_the_tools_is_refused() -> None:
    hits = found("unknown-calls", calling("search", SEARCH), calling("find", SEARCH), calling("find"))
    assert list(hits) == [2], "a row without `tools` may have them in its words"
    assert "`find` is called, and there are search" in hits[2]


def test_nulls_in_schemas_are_counted() -> None:
    polluted = {**SEARCH, "strict": None, "parameters": {"type": "object", "properties": {"q": None, "r": None}}}
    hits = found("null-schemas", calling("search", SEARCH), calling("search", polluted))
    assert hits == {2: "3 nulls in `tools`"}


@pytest.mark.parametrize(
    ("given", "nulls", "clean"),
    [
        ({"a": None, "b": {"c": None, "d": 1}}, 2, {"b": {"d": 1}}),
        ({"enum": [None, "x"]}, 0, {"enum": [None, "x"]}),
        ({"default": None}, 0, {"default": None}),
        ([{"a": None}, 3], 1, [{}, 3]),
        ("text", 0, "text"),
    ],
)
def test_only_keys_that_mean_nothing_are_taken_out(given: Any, nulls: int, clean: Any) -> None:
    assert count_nulls(given) == nulls
    assert without_nulls(given) == clean
    assert count_nulls(clean) == 0
