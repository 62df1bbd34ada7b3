"""The command as a user runs it, and a small run of the seedling to use."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from graft.cli import main
from graft.seedling import demo_train_path


@dataclass(frozen=True)
class Ran:
    code: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        return json.loads(self.out.rstrip("\n").rsplit("\n", 1)[-1])


Graft = Callable[..., Ran]


@pytest.fixture
def graft(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Graft:
    """Run `graft` with these arguments in this process."""

    def run(*arguments: object) -> Ran:
        monkeypatch.setattr(sys, "argv", ["graft", *map(str, arguments)])
        capfd.readouterr()
        code = 0
        try:
            main()
        except SystemExit as end:
            code = int(end.code or 0)
        out, err = capfd.readouterr()
        return Ran(code, out, err)

    return run


QUICK = ("--set", "train.learning_rate=4e-3", "--set", "train.max_steps=12", "--set", "data.cutoff=256")


@pytest.fixture(scope="session")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows of the demo, few enough to be quick."""
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    lines = demo_train_path().read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:240]), encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def run_folder(rows: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A short run. Do not write into it."""
    import graft

    out = tmp_path_factory.mktemp("runs") / "quick"
    settings = {"model.path": "seedling", "data": {"path": str(rows), "cutoff": 256, "held_out": 24}}
    graft.train({**settings, "train": {"learning_rate": 4e-3, "max_steps": 12, "eval_every": 5}}, out=out)
    return out
