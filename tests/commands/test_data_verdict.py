"""`graft data check` says of rows what `graft train` does with them."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands.conftest import Graft

ROWS = [
    {"instruction": f"Where does {name} live?", "output": f"{name} lives in {place}."}
    for name, place in (("Ann", "Elm"), ("Bob", "Oak"), ("Cid", "Ash"), ("Dee", "Fir"), ("Eva", "Bay"), ("Fay", "Yew"))
]
LONG = {"instruction": "Where does Gus live?", "output": "Gus lives far away. " * 40}
LONGER = {"instruction": "Where does Hal live?", "output": "Hal lives far away. " * 400}
SILENT = {"messages": [{"role": "user", "content": "Who is there?"}]}

TALK = [{"role": "user", "content": "Who is there?"}, {"role": "assistant", "content": "It is Ann."}]
POLLUTED = {"description": "d", "parameters": {"type": "object", "properties": {f"p{n}": None for n in range(60)}}}


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


CASES = {
    "good rows": (ROWS, ()),
    "too long a row is left out": ([*ROWS, LONG], ("data.cutoff=128",)),
    "too long a row is cut": ([*ROWS, LONG], ("data.cutoff=128", "data.too_long=cut")),
    "too long a row is an error": ([*ROWS, LONG], ("data.cutoff=128", "data.too_long=error")),
    "no row is too long for an error": (ROWS, ("data.cutoff=128", "data.too_long=error")),
    "no row fits": (ROWS, ("data.cutoff=8",)),
    "no row fits, cut": (ROWS, ("data.cutoff=8", "data.too_long=cut")),
    "no row that is held out fits": ([*ROWS[:1], LONG], ("data.cutoff=128", "data.held_out=1", "data.seed=1")),
    "no row that is trained on fits": ([*ROWS[:1], LONG], ("data.cutoff=128", "data.held_out=1", "data.seed=0")),
    "one row": (ROWS[:1], ()),
    "one row that is trained on": (ROWS[:1], ("data.held_out=0",)),
    "all rows are held out": (ROWS, ("data.held_out=6",)),
    "more than all": (ROWS, ("data.held_out=60",)),
    "all but one": (ROWS, ("data.held_out=5",)),
    "copies of one row": (ROWS[:1] * 6, ()),
    "mixed away": (ROWS[:2], ("data.mix=[1e-9]", "data.held_out=0")),
    "mixed without end": (ROWS, ("data.mix=[1e9]",)),
    "more tokens than a forest may have": (ROWS, ("train.max_tokens=40",)),
    "more tokens than the model has positions": ([*ROWS, LONGER], ("data.cutoff=4096", "train.max_tokens=9999")),
    "steered by rows that are not held out": (ROWS, ("data.held_out=0", "best.by=rouge_l")),
    "nothing to learn": ([SILENT], ("data.held_out=0",)),
    "nobody is learned": (ROWS, ("data.train_on=[]",)),
    "an empty answer": ([*ROWS, {"instruction": "Ask.", "output": ""}], ()),
    "a text": ([{"text": "Once there was a mill. " * 60}, {"text": "It had a wheel."}], ("data.cutoff=32",)),
    "nulls that are mended take the length": (
        [{"messages": TALK, "tools": [POLLUTED | {"name": f"f{n}"}]} for n in range(4)],
        ("data.cutoff=200", "data.held_out=1"),
    ),
    "the first row told the format": (
        [{"instruction": "Ask.", "output": ""}, *({**row, "context": "c", "response": "r"} for row in ROWS)],
        ("data.held_out=1",),
    ),
    "a text is never too long": (
        [{"text": "A mill. " * 60}] * 2 + ROWS[:0],
        ("data.too_long=error", "data.held_out=0"),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_is_what_train_does(name: str, graft: Graft, tmp_path: Path) -> None:
    rows, settings = CASES[name]
    data = write(tmp_path / "rows.jsonl", rows)
    options = [part for setting in settings for part in ("--set", setting)]
    trained = graft("train", "--data", data, "--out", tmp_path / "run", "--dry-run", *options)
    checked = graft("data", "check", "--data", data, *options)
    assert checked.code == trained.code, f"{checked.out}\n{trained.err}"
    taken = "graft train takes these rows" in checked.out
    assert taken == (trained.code == 0)
    assert taken != ("graft train would refuse these rows" in checked.out)
    as_json = graft("data", "check", "--data", data, *options, "--json").json
    assert as_json["refused"] != taken
    if "obstacle" in as_json:
        for said in (as_json["obstacle"]["what"], f"  -> {as_json['obstacle']['fix']}"):
            assert said in trained.err
            assert said in checked.out


@pytest.mark.parametrize("name", CASES)
def test_the_verdict_on_a_copy_is_what_train_does_with_it(name: str, graft: Graft, tmp_path: Path) -> None:
    rows, settings = CASES[name]
    data, copy = write(tmp_path / "rows.jsonl", rows), tmp_path / "clean.jsonl"
    options = [part for setting in settings for part in ("--set", setting)]
    fixed = graft("data", "check", "--data", data, "--fix", copy, *options)
    if not copy.exists():
        assert (fixed.code, "no row would be left" in fixed.err) == (2, True)
        return
    trained = graft("train", "--data", copy, "--out", tmp_path / "run", "--dry-run", *options)
    assert fixed.code == trained.code, f"{fixed.out}\n{trained.err}"
    assert ("graft train takes it" in fixed.out) == (trained.code == 0)
    assert ("graft train would refuse it" in fixed.out) == (trained.code != 0)
