"""A run in a control group of the system, which kills whoever takes more memory than its limit."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from graft.training import read_metrics
from tests.torture.conftest import Zygote
from tests.torture.test_numbers import LONG, longest_rows

GROUPS = Path("/sys/fs/cgroup")
LESS = 60 << 20
"""Bytes below what the run takes: its longest forests do not fit then, and one sample does."""


@dataclass
class Group:
    """A control group: cgroups(7), of version 1 or 2."""

    folder: Path

    @property
    def names(self) -> tuple[str, str]:
        """Of the files for the limit, and for the most that was used."""
        old = (self.folder / "memory.limit_in_bytes").exists()
        return ("memory.limit_in_bytes", "memory.max_usage_in_bytes") if old else ("memory.max", "memory.peak")

    def run(self, command: list[str]) -> subprocess.CompletedProcess[str]:
        joins = f'echo $$ > {self.folder}/cgroup.procs && exec "$@"'
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        return subprocess.run(["sh", "-c", joins, "sh", *command], capture_output=True, text=True, env=environment)

    def most_used(self) -> int:
        return int((self.folder / self.names[1]).read_text())

    def limit(self, most: int) -> None:
        (self.folder / self.names[0]).write_text(str(most))


@pytest.fixture
def group() -> Iterator[Group]:
    above = GROUPS / "memory" if (GROUPS / "memory").is_dir() else GROUPS
    group = Group(above / f"graft-torture-{os.getpid()}")
    try:
        group.folder.mkdir()
    except OSError as error:
        pytest.skip(f"this user makes no control group: {error}")
    limits = all((group.folder / name).exists() for name in group.names)
    if limits:
        yield group
    group.folder.rmdir()
    if not limits:
        pytest.skip("control groups do not limit memory here")


@pytest.mark.slow
def test_a_limit_that_only_the_longest_forests_break_is_kept(group: Group, zygote: Zygote, tmp_path: Path) -> None:
    data = longest_rows(tmp_path / "rows.jsonl")

    def command(out: Path) -> list[str]:
        return [sys.executable, "-m", "graft", *zygote.train(out, settings=LONG, rows=data)]

    ample = group.run(command(tmp_path / "ample"))
    assert ample.returncode == 0, ample.stderr
    assert "warning" not in ample.stderr
    limit = group.most_used() - LESS
    group.limit(limit)
    taking = group.run([sys.executable, "-c", f"b'x' * {limit}"])
    assert taking.returncode == -signal.SIGKILL, "the limit is no limit"
    narrow = group.run(command(tmp_path / "narrow"))
    assert narrow.returncode == 0, narrow.stderr
    assert "memory did not do for a forest of " in narrow.stderr
    whole, short = (read_metrics(tmp_path / name / "metrics.jsonl") for name in ("ample", "narrow"))
    for name in ("loss", "grad_norm"):
        assert [line[name] for line in short] == pytest.approx([line[name] for line in whole], rel=1e-6)
