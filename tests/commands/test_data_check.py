"""`graft data check` as users run it."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.commands.conftest import Graft

SHARED = Path(__file__).parents[2].parent / "shared" / "data"
GOOD = [
    {"instruction": f"Where does {name} live?", "output": f"{name} lives in Elm."} for name in ("Ann", "Bob", "Cid")
]


def write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return path


@pytest.fixture
def bad(tmp_path: Path) -> Path:
    return write(tmp_path / "bad.jsonl", [*GOOD, GOOD[0], {"instruction": "Ask.", "output": ""}])


def test_good_rows_are_taken(graft: Graft, tmp_path: Path) -> None:
    ran = graft("data", "check", "--data", write(tmp_path / "rows.jsonl", GOOD))
    assert ran.code == 0
    assert "3 rows checked: 0 grounds to refuse, 0 warnings; graft train takes these rows" in ran.out
    assert "the tokenizer of seedling, the template alpaca, as the model brings none, data.cutoff 1024" in ran.err


def test_faults_are_told_with_their_places_and_a_way_out(graft: Graft, bad: Path) -> None:
    ran = graft("data", "check", "--data", bad)
    assert ran.code == 2
    assert "refused empty: 1 row with nothing where words are due" in ran.out
    assert f"  {bad}:5: `output` is empty" in ran.out
    assert "  -> mend these rows, or leave them out with --fix" in ran.out
    assert f"  {bad}:4: as {bad}:1" in ran.out
    assert "graft train would refuse these rows" in ran.out


def test_machines_get_every_place(graft: Graft, bad: Path) -> None:
    result = graft("data", "check", "--data", bad, "--set", "data.held_out=0", "--json").json
    assert (result["rows"], result["refused"]) == (5, True)
    by_name = {finding["check"]: finding for finding in result["findings"]}
    assert by_name["empty"]["rows"] == [{"at": f"{bad}:5", "what": "`output` is empty"}]
    assert by_name["duplicates"]["severity"] == "warning"


def test_a_cleaned_copy_passes_and_the_original_stays(graft: Graft, bad: Path, tmp_path: Path) -> None:
    before = bad.read_bytes()
    ran = graft("data", "check", "--data", bad, "--set", "data.held_out=0", "--fix", tmp_path / "clean.jsonl")
    assert ran.code == 0, ran.err
    assert "clean.jsonl: 3 rows; left out: 1 for empty, 1 for duplicates; mended: 0" in ran.out
    assert [json.loads(line) for line in (tmp_path / "clean.jsonl").read_text().splitlines()] == GOOD
    assert bad.read_bytes() == before
    assert graft("data", "check", "--data", tmp_path / "clean.jsonl").code == 0
    again = graft("data", "check", "--data", bad, "--fix", tmp_path / "clean.jsonl")
    assert again.code == 2
    assert "is there already, and no file of rows is written over\n  -> give another --fix" in again.err
    assert graft("data", "check", "--data", bad, "--fix", bad).code == 2
    assert bad.read_bytes() == before


def test_rows_of_another_check_are_left_out_on_request(graft: Graft, tmp_path: Path) -> None:
    rows = write(tmp_path / "rows.jsonl", [*GOOD, {"instruction": "Is it so?", "output": "Yes."}])
    ran = graft("data", "check", "--data", rows, "--fix", tmp_path / "a.json", "--drop", "short-answers", "--json")
    assert ran.json["fixed"]["dropped"] == {"short-answers": 1}
    assert json.loads((tmp_path / "a.json").read_text()) == GOOD


def test_data_of_their_own_to_measure_on(graft: Graft, tmp_path: Path) -> None:
    rows, exam = write(tmp_path / "rows.jsonl", GOOD), write(tmp_path / "exam.jsonl", GOOD[1:2])
    ran = graft("data", "check", "--data", rows, "--held-out", exam, "--fix", tmp_path / "a.json", "--json")
    (leak,) = [finding for finding in ran.json["findings"] if finding["check"] == "leaks"]
    assert leak["rows"] == [{"at": f"{rows}:2", "what": f"as {exam}:1, which is held out"}]
    assert json.loads((tmp_path / "a.json").read_text()) == [GOOD[0], GOOD[2]]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--drop", "secrets"), "say where to write it with --fix"),
        (("--drop", "secret", "--fix", "x.jsonl"), "did you mean secrets?"),
        (("--fix", "x.parquet"), "rows are written as .jsonl, .json, .csv"),
        (("--format", "chatglm"), "cannot be read"),
    ],
)
def test_what_cannot_be_done_is_said(arguments: tuple[str, ...], said: str, graft: Graft, tmp_path: Path) -> None:
    ran = graft("data", "check", "--data", write(tmp_path / "rows.jsonl", GOOD), *arguments)
    assert ran.code == 2
    assert said in ran.out + ran.err
    assert "Traceback" not in ran.err


def test_files_of_two_formats_are_cleaned_one_after_the_other(graft: Graft, tmp_path: Path) -> None:
    talk = {"messages": [{"role": "user", "content": "Where is Dee?"}, {"role": "assistant", "content": "In Fir."}]}
    rows, other = write(tmp_path / "rows.jsonl", GOOD), write(tmp_path / "talk.jsonl", [talk])
    ran = graft("data", "check", "--data", tmp_path / "*.jsonl")
    assert (ran.code, ran.out) == (2, "")
    assert f"{other} begins with a row of the format messages, and {rows} is alpaca" in ran.err
    both = f"data.path=[{rows}, {other}]"
    assert graft("data", "check", "--set", both).code == 0
    copied = graft("data", "check", "--set", both, "--fix", tmp_path / "clean.jsonl")
    assert copied.code == 2
    assert f"--fix writes one file of one format, and {rows} is alpaca, {other} is messages" in copied.err
    assert not (tmp_path / "clean.jsonl").exists()
    assert graft("data", "convert", "--set", both, "--to", "messages", "--out", tmp_path / "all.jsonl").code == 0


def test_another_template_than_the_models_own_is_a_warning(graft: Graft, tmp_path: Path) -> None:
    from graft.seedling import seedling_path

    model = tmp_path / "model"
    model.mkdir()
    for file in seedling_path().iterdir():
        (model / file.name).symlink_to(file)
    own = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}"
    (model / "chat_template.jinja").write_text(own + "{% if add_generation_prompt %}assistant: {% endif %}")
    rows = write(tmp_path / "rows.jsonl", GOOD)
    ran = graft("data", "check", "--model", model, "--data", rows, "--set", "data.template=alpaca")
    assert ran.code == 0
    assert "warning template: data.template alpaca is not the chat template that" in ran.out
    assert "warning" not in graft("data", "check", "--model", model, "--data", rows).out.replace("0 warnings", "")


@pytest.mark.parametrize(
    ("says", "said"),
    [
        ("{{ m.content.nope() }}", "cannot render this conversation: 'str object' has no attribute 'nope'"),
        ("{{ m.content", "cannot render this conversation: expected token 'end of print statement'"),
        ("hello", "leaves out what message 1 (user) says"),
    ],
)
def test_a_broken_template_is_not_blamed_on_the_rows(says: str, said: str, graft: Graft, tmp_path: Path) -> None:
    template = tmp_path / "mine.jinja"
    template.write_text(f"{{% for m in messages %}}{says}{{% endfor %}}")
    rows = write(tmp_path / "rows.jsonl", GOOD)
    ran = graft("data", "check", "--data", rows, "--set", f"data.template={template}")
    assert ran.code == 2
    assert "refused unwritable: 3 rows that the template cannot write" in ran.out
    assert f"{rows}:1: the template {template} {said}" in ran.out
    assert "  -> mend the template, or take another data.template;" in ran.out
    assert "unreadable" not in ran.out
    assert graft("train", "--data", rows, "--set", f"data.template={template}", "--out", tmp_path / "run").code == 2


def test_train_refuses_what_the_check_refuses(graft: Graft, tmp_path: Path) -> None:
    said = [{"role": "user", "content": "Where is Ann?"}, {"role": "assistant", "content": "In Elm.", "loss": False}]
    learned = [said[0], {**said[1], "loss": True}]
    rows = write(tmp_path / "rows.jsonl", [{"messages": learned}, {"messages": said}, {"messages": learned}])
    ran = graft("train", "--data", rows, "--set", "data.held_out=0", "--out", tmp_path / "run")
    assert ran.code == 2
    assert f"untrained: 1 row with no token to train on ({rows}:2:" in ran.err
    assert not (tmp_path / "run").exists()
    assert graft("data", "check", "--data", rows).code == 2


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize("name", ["alpaca_en_demo", "alpaca_zh_demo", "glaive_toolcall_en_demo"])
def test_real_rows_are_checked_and_shown_without_an_option(name: str, graft: Graft) -> None:
    ran = graft("data", "check", "--data", SHARED / f"{name}.json", "--json")
    assert ran.code == 0
    assert not ran.json["refused"]
    shown = graft("data", "show", "--data", SHARED / f"{name}.json")
    assert shown.code == 0
    assert f"row 1 {SHARED / name}.json:2" in shown.out
