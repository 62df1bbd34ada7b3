"""The seed tasks that ship with Graft, and files of seeds that users bring."""

import json
from pathlib import Path
from typing import Any

import pytest

from graft.data.synth.filters import good_instances, instruction_fault
from graft.data.synth.pool import Pool
from graft.data.synth.replies import Example
from graft.data.synth.seeds import Task, language_of, read_seeds
from graft.errors import DataError

SEEDS = read_seeds("")
GOOD = {
    "id": "a",
    "name": "rivers",
    "instruction": "Name three rivers of Asia.",
    "instances": [{"input": "", "output": "Mekong, Indus, Amur"}],
    "is_classification": False,
}


@pytest.mark.parametrize("language", ["en", "zh"])
def test_there_are_enough_of_both_kinds_in_both_languages(language: str) -> None:
    tasks = [task for task in SEEDS if task.language == language]
    assert len(tasks) >= 60
    assert all(task.id.startswith(language) for task in tasks), "an instruction is told by its script"
    assert sum(task.is_classification for task in tasks) >= 10


@pytest.mark.parametrize("task", SEEDS, ids=lambda task: task.id)
def test_our_own_filter_would_take_each(task: Task) -> None:
    assert instruction_fault(task.instruction, task.language) is None
    examples = [Example(instance.input, instance.output) for instance in task.instances]
    kept, drops = good_instances(task.instruction, examples)
    assert not drops
    assert len(kept) == len(task.instances)
    if task.is_classification:
        assert len({instance.output for instance in kept}) > 1, "more than one label is shown"


def test_none_is_nearly_another() -> None:
    pool = Pool(0.6)
    for task in SEEDS:
        near = pool.alike(task.instruction)
        assert near is None, (task.instruction, SEEDS[near].instruction)
        pool.add(task.instruction)


def write(path: Path, *rows: Any) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def test_a_users_file_is_read(tmp_path: Path) -> None:
    (task,) = read_seeds(write(tmp_path / "seeds.jsonl", GOOD))
    assert task.instruction == "Name three rivers of Asia."
    assert task.instances[0].output == "Mekong, Indus, Amur"
    assert not task.is_classification


FAULTS = {
    "no instruction": ({"instruction": " "}, "`instruction` is empty"),
    "no examples": ({"instances": []}, "`instances` holds no example"),
    "examples of another kind": ({"instances": ["x"]}, "an instance is no object"),
    "an example without an output": ({"instances": [{"input": "x"}]}, "the key `output` is missing"),
    "no kind": ({"is_classification": "no"}, "`is_classification` is neither true nor false"),
    "a key too many": ({"instructions": "x"}, "the key `instructions` is none of a task"),
    "half a surrogate pair": ({"instruction": "x \ud800"}, "half a surrogate pair"),
    "an id that stands twice": ({}, "the id 'a' stands twice"),
}


@pytest.mark.parametrize("case", FAULTS)
def test_a_fault_is_named_with_its_line(case: str, tmp_path: Path) -> None:
    changed, expected = FAULTS[case]
    with pytest.raises(DataError) as error:
        read_seeds(write(tmp_path / "seeds.jsonl", GOOD, {**GOOD, **changed}))
    assert "seeds.jsonl:2: " in str(error.value)
    assert expected in str(error.value)
    assert "->" in str(error.value)


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("Translate 你好 into French, please, my friend.", "en"),
        ("将 Actions speak louder than words 译成中文", "zh"),
        ("写一首诗", "zh"),
        ("12 + 3", "en"),
        ("", "en"),
    ],
)
def test_the_language_is_told_by_the_script(text: str, language: str) -> None:
    assert language_of(text) == language
