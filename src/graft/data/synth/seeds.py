"""Tasks, and the files of seed tasks that a data set grows from.

{"id", "name", "instruction", "instances": [{"input", "output"}, ...], "is_classification"}
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.data.cache import content_hash
from graft.data.formats.contract import list_at, text_at
from graft.data.read import read_rows
from graft.data.rouge import words
from graft.data.synth.settings import Language
from graft.errors import DataError
from graft.records import Row

SHIPPED = Path(__file__).parents[1] / "seeds"
"""The folder of the seed tasks that were written for Graft, a file a language."""

_KEYS = {"id", "name", "instruction", "instances", "is_classification"}
_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]")


@dataclass(frozen=True)
class Instance:
    """An example of a task; `input` is empty where the instruction says all."""

    input: str
    output: str


@dataclass(frozen=True)
class Task:
    """An instruction with examples."""

    id: str
    instruction: str
    instances: tuple[Instance, ...]
    is_classification: bool

    @property
    def language(self) -> Language:
        return language_of(self.instruction)


def language_of(text: str) -> Language:
    """zh where a third or more of the words are Chinese characters: names and terms may be foreign."""
    units = words(text)
    han = sum(bool(_HAN.fullmatch(unit)) for unit in units)
    return "zh" if 3 * han >= len(units) > 0 else "en"


def read_seeds(path: str) -> list[Task]:
    """The tasks of a file, or those that ship with Graft where `path` is empty.

    Raises:
        DataError: a row is no task, or an id stands twice; with its place.
    """
    tasks: dict[str, Task] = {}
    for row in read_rows(path or str(SHIPPED)):
        task = _task(row)
        if task.id in tasks:
            raise DataError(f"{row.source}: the id {task.id!r} stands twice", fix="give each task an id of its own")
        tasks[task.id] = task
    return list(tasks.values())


def seeds_hash(path: str) -> str:
    """SHA-256 of the seeds."""
    return content_hash(path or str(SHIPPED))


def prompts_hash(texts: Mapping[Language, Any]) -> str:
    """SHA-256 of the words in which the teacher is asked."""
    return hashlib.sha256(repr(texts).encode()).hexdigest()


def _task(row: Row) -> Task:
    try:
        if unknown := sorted(row.fields.keys() - _KEYS):
            raise ValueError(f"the key `{unknown[0]}` is none of a task")
        if not isinstance(row.fields.get("is_classification"), bool):
            raise ValueError("`is_classification` is neither true nor false")
        text_at(row.fields, "name", needed=False)
        instances = [_instance(value) for value in list_at(row.fields, "instances")]
        if not instances:
            raise ValueError("`instances` holds no example")
        return Task(
            text_at(row.fields, "id"),
            text_at(row.fields, "instruction").strip(),
            tuple(instances),
            row.fields["is_classification"],
        )
    except ValueError as error:
        fix = 'a task is {"id", "name", "instruction", "instances": [{"input", "output"}], "is_classification"}'
        raise DataError(f"{row.source}: {error}", fix=fix) from None


def _instance(value: Any) -> Instance:
    if not isinstance(value, dict):
        raise ValueError("an instance is no object with `input` and `output`")
    return Instance(text_at(value, "input", needed=False), text_at(value, "output"))
