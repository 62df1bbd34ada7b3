"""`bench/`: the scripts that measure on a CUDA device, as far as a CPU can run them."""

import os
import runpy
import statistics
import subprocess
import sys
from pathlib import Path

import pytest

BENCH = Path(__file__).parents[1] / "bench"


def test_rows_are_as_long_as_those_of_alpaca() -> None:
    make_rows = runpy.run_path(str(BENCH / "random_model.py"))["make_rows"]
    rows = make_rows(4000, vocabulary=2048)
    lengths = [len(row["ids"]) for row in rows]
    assert statistics.mean(lengths) == pytest.approx(230, abs=5)
    assert sum(sum(row["trained"]) for row in rows) / sum(lengths) == pytest.approx(0.72, abs=0.01)
    padded = sum(8 * max(lengths[i : i + 8]) for i in range(0, len(lengths), 8))
    assert padded / sum(lengths) == pytest.approx(1.96, abs=0.05)
    assert len({tuple(row["ids"][:29]) for row in rows}) == 1, "the preamble is that of all"
    assert make_rows(50, vocabulary=2048) == rows[:50]


@pytest.mark.slow
def test_the_script_for_cuda_ends_well_without_it(tmp_path: Path) -> None:
    pytest.importorskip("accelerate")
    environment = {**os.environ, "PYTHON": sys.executable, "OUT": str(tmp_path), "CUDA_VISIBLE_DEVICES": ""}
    ran = subprocess.run([BENCH / "cuda.sh"], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "CUDA: unmeasured" in ran.stdout
    assert "nf4  " in ran.stdout
    assert "graft-bf16" in ran.stdout
    assert (tmp_path / "tiny" / "bench.json").is_file()


def test_the_index_of_synth_decides_as_comparing_with_all(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["synth.py", "300"])
    runpy.run_path(str(BENCH / "synth.py"), run_name="__main__")
    assert "the first 300 compared with all: the same decisions" in capsys.readouterr().out
