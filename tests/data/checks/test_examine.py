from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.data import encode_all, load_template, template_of
from graft.data.checks import CHECKS, Cleaner, Seen, Watch, counted, examine, find
from graft.data.corpus import CorpusBuilder
from graft.errors import DataError
from graft.records import Conversation, Message, Row, Source, TokenSequence
from tests.data.checks.subjects import REFUSING, Fields, alpaca, rows_of, seen, subject, surveyed, talk, tokenizer

ALPACA = load_template("alpaca")
FORM = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}" + (
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def conversation(line: int, *messages: Message, calls: bool = False) -> Conversation:
    return Conversation(messages, Source("rows.jsonl", line), ({"name": "look_it_up"},) if calls else ())


def test_findings_that_refuse_come_first_and_name_places_for_machines() -> None:
    silent = talk(("user", "only asks this"))
    findings = find(subject(alpaca("Ask.", "Yes."), cutoff=4))
    assert [finding.severity for finding in findings] == ["warning"] * len(findings)
    findings = find(subject(silent, silent))
    assert findings[0].as_json() == {
        "check": "untrained",
        "severity": "refused",
        "what": "2 rows with no token to train on",
        "fix": findings[0].found.fix,
        "count": 2,
        "rows": [{"at": f"rows.jsonl:{n}", "what": findings[0].found.rows[n - 1]} for n in (1, 2)],
    }
    assert {finding.severity for finding in find(subject(silent), names=REFUSING)} == {"refused"}
    assert [finding.severity for finding in findings] == ["refused", *["warning"] * (len(findings) - 1)]


def test_good_rows_have_no_finding() -> None:
    rows = [alpaca(f"Where does {name} live?", f"{name} lives in a small house.") for name in ("Ann", "Bob", "Cid")]
    assert find(subject(*rows)) == []


def test_what_no_template_can_write_is_a_fault_of_its_row_alone() -> None:
    def read() -> Iterator[tuple[Row, Conversation]]:
        for line in range(1, 4):
            said = [Message("user", "a b"), Message("assistant", "c d", trained=True)]
            yield Row(Source("rows.jsonl", line), {}), conversation(line, *said, calls=line == 2)

    kept = CorpusBuilder()

    def keep(_: Conversation, samples: Sequence[TokenSequence]) -> None:
        kept.append_row(samples)

    rows = list(examine(read(), template_of({"jinja": FORM}, "mine"), tokenizer(), cutoff=1024, keep=keep))
    assert [row.fault is not None for row in rows] == [False, True, False]
    assert "has no place for tools" in str(rows[1].fault)
    assert [sequence.source for sequence in kept.finish()] == [rows[0].source, rows[2].source]
    assert [row.samples[0].ended for row in rows if row.samples] == [True, True]


def test_encoded_rows_are_held_against_what_refuses_and_the_first_are_named() -> None:
    asked, answered = Message("user", "a b"), Message("assistant", "c d", trained=True)
    good = conversation(1, asked, answered)
    silent = [conversation(line, asked, Message("assistant", "c d", trained=False)) for line in range(2, 9)]

    def run(*conversations: Conversation, cutoff: int = 1024) -> None:
        watch = Watch(ALPACA, tokenizer(), cutoff=cutoff)
        encode_all(conversations, ALPACA, tokenizer(), cutoff=cutoff, too_long="cut", look=watch.look)
        watch.refuse()

    run(good)
    with pytest.raises(DataError) as caught:
        run(good, silent[0])
    assert "untrained: 1 row with no token to train on (rows.jsonl:2:" in caught.value.what
    with pytest.raises(DataError) as caught:
        run(good, *silent)
    assert "untrained: 7 rows" in caught.value.what
    assert caught.value.what.count("rows.jsonl:") == 5
    assert caught.value.what.endswith("; and 2 more)")
    whole = len(encode_all([good], ALPACA, tokenizer(), cutoff=1024, too_long="drop").samples[0])
    run(good, cutoff=whole - 1)  # cut, as was asked for
    assert (counted(1), counted(2000)) == ("1 row", "2,000 rows")


def test_all_that_refuses_looks_at_one_row_so_that_training_can_ask_it_of_any_number_of_rows() -> None:
    assert all(check.look for check in CHECKS.values() if check.severity == "refused")


@pytest.mark.parametrize("name", CHECKS)
def test_every_check_takes_rows_of_which_nothing_is_known(name: str) -> None:
    source = Source("rows.jsonl", 1)
    unread = seen(alpaca("Ask.", "Fine, thank you."))
    assert CHECKS[name].find(surveyed([Seen(source), *unread, Seen(source)])) is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(["role", "content", "loss", "tool_calls", "tool_call_id", "name", "arguments"])
ENTRY = st.dictionaries(KEYS, JSON | st.sampled_from(["user", "assistant", "tool", "system", "Say it."]), max_size=5)


@given(st.lists(st.fixed_dictionaries({"messages": st.lists(ENTRY | JSON, max_size=4) | JSON, "tools": JSON})))
def test_whatever_the_rows_hold_each_is_good_or_has_a_fault_and_a_copy_can_be_made(rows: list[Fields]) -> None:
    rows = [talk(("user", "Where is Ann?"), ("assistant", "In Elm.")), *rows]
    looked_at = seen(*rows)
    assert all(row.fault or row.samples for row in looked_at)
    whole = surveyed(looked_at)
    findings = find(whole)
    refused = {number for finding in findings if finding.severity == "refused" for number in finding.found.rows}
    assert {number for number, row in enumerate(looked_at) if row.fault} <= refused
    cleaned = Cleaner(whole, findings).fields(rows_of(*rows))
    assert not find(subject(*map(dict, cleaned)), names=REFUSING)
