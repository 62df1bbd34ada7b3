"""A run that is short enough to be broken off hundreds of times, and what it comes to when nobody does."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from graft.seedling import demo_train_path

SETTINGS = (
    "data.held_out=4", "data.cutoff=256", "train.global_batch=3", "train.epochs=1", "train.max_steps=12",
    "train.learning_rate=4e-3", "train.eval_every=5", "checkpoint.every=2", "checkpoint.keep=2",
    "lora.r=2", "lora.target_modules=[layers.3.self_attn.q_proj]", "lora.lora_dropout=0.1",
)  # fmt: skip


@dataclass
class Life:
    """One process of `graft`."""

    pid: int
    words_in: Path
    zygote: "Zygote"

    def end(self) -> int:
        """Wait for it; its exit code, or less than 0 for the signal that ended it."""
        self.zygote.send("end")
        return int(self.zygote.answer())

    @property
    def words(self) -> str:
        return self.words_in.read_text(errors="replace")


class Zygote:
    def __init__(self, folder: Path, rows: Path) -> None:
        self._folder, self._rows = folder, rows
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.torture.zygote"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, cwd=Path(__file__).parents[2],
        )  # fmt: skip
        self._send_life(self.train(folder / "warm"), folder / "warm.words")
        assert self.answer() == "ready"

    def train(self, out: Path, *more: str, settings: tuple[str, ...] = SETTINGS, rows: Path | None = None) -> list[str]:
        """The arguments of a run in `out`; `more` are settings over the others."""
        sets = [part for setting in (*settings, *more) for part in ("--set", setting)]
        return ["train", "--data", str(rows or self._rows), "--out", str(out), *sets]

    def begin(self, arguments: list[str], **fate: Any) -> Life:
        words = self._folder / "words"
        self._send_life(arguments, words, **fate)
        return Life(int(self.answer()), words, self)

    def live(self, arguments: list[str], **fate: Any) -> tuple[int, str]:
        """A whole life; its exit code and its words."""
        life = self.begin(arguments, **fate)
        return life.end(), life.words

    def answer(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the zygote is dead"
        return line.strip()

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.wait(timeout=60) == 0

    def send(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n")
        self._process.stdin.flush()

    def _send_life(self, arguments: list[str], words: Path, **fate: Any) -> None:
        self.send(json.dumps({"arguments": arguments, "words": str(words), **fate}))


@pytest.fixture(scope="session")
def zygote(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Zygote]:
    folder = tmp_path_factory.mktemp("zygote")
    rows = folder / "rows.jsonl"
    rows.write_text("".join(demo_train_path().read_text(encoding="utf-8").splitlines(keepends=True)[:40]))
    zygote = Zygote(folder, rows)
    yield zygote
    zygote.close()


@dataclass(frozen=True)
class Result:
    """What a run came to: all that must be the same however often it was broken off."""

    adapter: dict[str, str]
    steps: list[dict[str, Any]]


def result_of(out: Path) -> Result:
    adapter = {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in (out / "adapter").iterdir()}
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    timeless = [{k: v for k, v in line.items() if k not in ("time", "peak_memory_bytes")} for line in lines]
    return Result(adapter, timeless)


def leftovers(out: Path) -> set[str]:
    """Names of hidden files and folders, which are those of something unfinished; the lock's apart."""
    return {path.name for path in out.rglob(".*")} - {".lock"}


@pytest.fixture(scope="session")
def whole(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Result:
    """What the run comes to when nothing befalls it."""
    out = tmp_path_factory.mktemp("whole") / "run"
    code, words = zygote.live(zygote.train(out))
    assert code == 0, words
    result = result_of(out)
    assert len(result.steps) == 12
    assert not leftovers(out)
    return result
