"""What is in the journal stays there, whatever happened to its end."""

import json
from pathlib import Path

import pytest

from graft.data.synth.journal import Journal, Reply
from graft.errors import RunError

REPLY = Reply(200, '{"choices": [{"message": {"content": "鱼 \\ud83d"}}]}', (10, 3), estimated=False)
BROKEN = Reply(200, "half a pair: \ud83d, \x00 and \u2028", (5, 0), estimated=True)


def written(path: Path) -> Path:
    with Journal(path) as journal:
        journal.put("one", "instructions", REPLY)
        journal.put("two", "instances", BROKEN)
    return path


def test_what_was_put_is_there_again(tmp_path: Path) -> None:
    with Journal(written(tmp_path / "journal.jsonl")) as journal:
        assert journal.get("one") == REPLY
        assert journal.get("two") == BROKEN
        assert journal.get("three") is None
        assert (len(journal), journal.tokens, journal.estimated) == (2, 18, 1)
        assert journal.requests == {"instructions": 1, "instances": 1}


def test_wherever_its_end_is_torn_off_the_lines_before_are_there(tmp_path: Path) -> None:
    path = written(tmp_path / "journal.jsonl")
    content = path.read_bytes()
    first = content.index(b"\n") + 1
    for end in range(first, len(content)):
        path.write_bytes(content[:end])
        with Journal(path) as journal:
            assert len(journal) == 1
            journal.put("three", "instances", REPLY)
        with Journal(path) as journal:
            assert [journal.get(key) for key in ("one", "two", "three")] == [REPLY, None, REPLY]


@pytest.mark.parametrize(
    "line", ["x", "{}", "[]", '{"key": "a", "stage": "b", "status": 200, "body": "", "tokens": 3}']
)
def test_a_broken_line_before_the_last_is_named(line: str, tmp_path: Path) -> None:
    path = written(tmp_path / "journal.jsonl")
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([lines[0], f"{line}\n", lines[1]]))
    with pytest.raises(RunError, match=r"journal\.jsonl:2: not a reply"):
        Journal(path)
    assert path.read_text().count("\n") == 3, "nothing was cut off"


def test_no_second_process_writes_into_it(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.jsonl"), pytest.raises(RunError, match="in use by another"):
        Journal(tmp_path / "journal.jsonl")
    Journal(tmp_path / "journal.jsonl").__exit__(None, None, None)


def test_a_line_is_json_for_everybody(tmp_path: Path) -> None:
    for line in written(tmp_path / "journal.jsonl").read_text(encoding="ascii").splitlines():
        assert json.loads(line)["status"] == 200
