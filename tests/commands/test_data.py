"""Data of many kinds, from the file to the adapter, as a user has them."""

import json
from pathlib import Path

import pytest

import graft as api
from graft.adapters import read_provenance
from graft.data import encode_conversation, load_template, read_conversations, read_rows
from graft.model import load_tokenizer
from graft.seedling import seedling_path
from tests.commands.conftest import Graft

QUICK = ("--set", "train.max_steps=2", "--set", "checkpoint.every=0", "--json")
SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def talk(question: str, answer: str) -> dict[str, object]:
    return {"messages": [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Rows of two formats, in a table and in JSONL."""
    rows = "".join(f"{json.dumps(talk(f'Question {n}?', f'Answer {n}.'))}\n" for n in range(8))
    (tmp_path / "talk.jsonl").write_text(rows)
    (tmp_path / "pairs.csv").write_text("input,target\n" + "".join(f"ask {n},say {n}\n" for n in range(4)))
    return tmp_path


def test_several_sources_are_mixed_and_the_run_says_how_they_are_read(graft: Graft, folder: Path) -> None:
    paths = f"data.path=[{folder}/talk.jsonl, {folder}/pairs.csv]"
    out = folder / "run"
    ran = graft("train", "--set", paths, "--set", "data.mix=[1, 3]", "--set", "data.held_out=2", "--out", out, *QUICK)
    assert ran.code == 0, ran.err
    assert "talk.jsonl is read as messages, as its first row has messages" in ran.err
    assert "pairs.csv is read as input-target, as its first row has input, target" in ran.err
    planned = graft(
        "train", "--set", paths, "--set", "data.mix=[1, 3]", "--set", "data.held_out=0", "--dry-run", "--json"
    )
    assert planned.json["rows"] == 8 + 3 * 4
    record = json.loads((out / "data.json").read_text())
    assert record["path"] == [f"{folder}/talk.jsonl", f"{folder}/pairs.csv"]
    evaluated = graft(
        "eval", "--adapter", out, "--no-base", "--out", folder / "r.html", "--max-new-tokens", 2, "--json"
    )
    assert evaluated.code == 0, evaluated.err


def test_the_template_goes_with_the_adapter_and_is_the_one_that_answers(graft: Graft, folder: Path) -> None:
    out = folder / "run"
    ran = graft("train", "--data", folder / "talk.jsonl", "--out", out, "--set", "data.template=llama-2", *QUICK)
    assert ran.code == 0, ran.err
    provenance = read_provenance(out / "adapter")
    assert provenance is not None
    assert provenance.template == load_template("llama-2").content()
    assistant = api.load(adapter=str(out))
    assert assistant.answerer.template.content() == provenance.template
    assert isinstance(assistant.answer("Question 1?", max_new_tokens=3), str)


def test_a_models_own_template_is_taken_and_stored(graft: Graft, folder: Path) -> None:
    model = folder / "model"
    model.mkdir()
    for file in seedling_path().iterdir():
        (model / file.name).symlink_to(file)
    own = "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token }}{% endfor %}" + (
        "{% if add_generation_prompt %}assistant: {% endif %}"
    )
    (model / "chat_template.jinja").write_text(own)
    ran = graft("train", "--model", model, "--data", folder / "talk.jsonl", "--out", folder / "run", *QUICK)
    assert ran.code == 0, ran.err
    provenance = read_provenance(folder / "run" / "adapter")
    assert provenance is not None
    assert provenance.template == {"jinja": own}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--set", "data.template=chatml"), "needs the special tokens <|im_start|> <|im_end|>"),
        (("--set", "data.template=model"), "the model brings no chat template"),
        (("--format", "alpca"), "did you mean `alpaca`?"),
        (("--format", "alpaca"), "talk.jsonl:1: the key `instruction` is missing"),
        (("--set", "data.train_on=[bot]"), "data.train_on"),
        (("--set", "data.mix=[1, 2]"), "mix has 2 numbers, and path has 1 entries"),
        (("--set", "data.prompt_loss_weight=2"), "data.prompt_loss_weight"),
        (("--set", "data.prompt_loss_weight=0.5", "--set", "data.train_on_inputs=true"), "train_on_inputs"),
        (("--set", "data.train_on=[]"), "8 rows with no token to train on"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused_before_anything_is_written(
    arguments: tuple[str, ...], said: str, graft: Graft, folder: Path
) -> None:
    ran = graft("train", "--data", folder / "talk.jsonl", "--out", folder / "run", *arguments)
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert not (folder / "run").exists()


def test_prompts_that_are_learned_count_as_trained(graft: Graft, folder: Path) -> None:
    def planned(*arguments: str) -> dict[str, int]:
        ran = graft("train", "--data", folder / "talk.jsonl", "--dry-run", "--json", *arguments)
        assert ran.code == 0, ran.err
        return {name: ran.json[name] for name in ("rows", "tokens_trained")}

    def trained(*arguments: str) -> int:
        return planned(*arguments)["tokens_trained"]

    answers = trained()
    everything = trained("--set", "data.train_on_inputs=true")
    assert everything > 2 * answers
    assert trained("--set", "data.prompt_loss_weight=0.1") == everything
    question = load_tokenizer(str(seedling_path())).encode("Question 1?", first=False)
    questions = planned()["rows"] * len(question)
    assert trained("--set", "data.train_on=user,assistant") == answers + questions, "what is said, not the form"


def test_a_book_is_learned_whole_and_asks_for_no_answer(graft: Graft, folder: Path) -> None:
    book, out = folder / "book.txt", folder / "run"
    book.write_text("".join(f"Anna saw {n} fish.\n" for n in range(200)))
    settings = ("--set", "data.cutoff=64", "--set", "data.held_out=0")
    planned = graft("train", "--data", book, *settings, "--dry-run", "--json")
    assert planned.json["rows"] > 10
    assert planned.json["tokens_trained"] == planned.json["tokens_logical"] - planned.json["rows"], "all but BOS"
    assert graft("train", "--data", book, "--out", out, *settings, *QUICK).code == 0
    asked = graft("eval", "--adapter", out, "--data", book, "--out", folder / "report.html")
    assert asked.code == 2
    assert "book.txt" in asked.err


def test_shares_go_with_the_virtual_tokens_of_prompt_tuning(graft: Graft, folder: Path) -> None:
    arguments = ("--method", "prompt", "--set", "data.prompt_loss_weight=0.1")
    ran = graft("train", "--data", folder / "talk.jsonl", "--out", folder / "run", *arguments, *QUICK)
    assert ran.code == 0, ran.err


@pytest.mark.skipif(not SHARED.is_dir(), reason="needs ../shared/data")
@pytest.mark.parametrize(
    ("name", "layout"),
    [("alpaca_en_demo", "alpaca"), ("alpaca_zh_demo", "alpaca"), ("glaive_toolcall_en_demo", "sharegpt")],
)
def test_real_rows_are_recognised_and_encoded_without_an_option(name: str, layout: str) -> None:
    notes: list[str] = []
    conversations = list(read_conversations(read_rows(str(SHARED / f"{name}.json")), say=notes.append))
    assert f"is read as {layout}" in notes[0]
    tokenizer = load_tokenizer(str(seedling_path()))
    template = load_template("auto", tokenizer.chat_template)
    for conversation in conversations[:200]:
        sample = encode_conversation(conversation, template, tokenizer)
        learned = [id for id, trained in zip(sample.ids, sample.trained, strict=True) if trained]
        answers = "".join(m.content for m in conversation.messages if m.role == "assistant")
        if not any(message.tool_calls for message in conversation.messages):
            assert tokenizer.decode(learned) == answers
        else:
            calls = [call for m in conversation.messages for call in m.tool_calls]
            assert template.read_answer(tokenizer.decode(learned), tokenizer).calls == tuple(calls)
