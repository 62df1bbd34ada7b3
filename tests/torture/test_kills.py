"""`kill -9` at any moment: every run resumes, and comes to the bits that it would have come to."""

import os
import random
import signal
import time
from pathlib import Path

import pytest

from tests.torture.conftest import Life, Result, Zygote, leftovers, result_of

LONGEST_SAVE = 0.02  # seconds; a kill that comes later is one that is not inside the save


def staged(out: Path) -> set[str]:
    """Checkpoints that are being written, or were when the process died."""
    return {path.name for path in (out / "checkpoints").glob(".step-*")}


def kill_in_a_save(life: Life, out: Path, draw: random.Random, before: set[str]) -> None:
    number, delay = draw.randint(1, 4), draw.uniform(0, LONGEST_SAVE)
    seen: set[str] = set()
    patience = time.monotonic() + 30
    while len(seen) < number and time.monotonic() < patience and is_alive(life):
        seen |= staged(out) - before
    until = time.monotonic() + delay
    while time.monotonic() < until:
        pass  # a sleep would wake up late
    os.kill(life.pid, signal.SIGKILL)


def kill_somewhere(life: Life, draw: random.Random, usual: float) -> None:
    time.sleep(draw.uniform(0, usual))
    os.kill(life.pid, signal.SIGKILL)


def is_alive(life: Life) -> bool:
    return Path(f"/proc/{life.pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"


def kill_often(zygote: Zygote, whole: Result, folder: Path, *, kills: int, inside: int, seed: int) -> dict[str, int]:
    draw = random.Random(seed)
    counts = {"kills": 0, "inside a save": 0, "runs": 0, "lives": 0}
    began = time.monotonic()
    assert zygote.live(zygote.train(folder / "usual"))[0] == 0
    usual = time.monotonic() - began
    while counts["kills"] < kills or counts["inside a save"] < inside:
        out = folder / f"run-{counts['runs']}"
        counts["runs"] += 1
        for _ in range(8):  # and then it may end
            before = staged(out)
            life = zygote.begin(zygote.train(out))
            counts["lives"] += 1
            if draw.random() < 0.6:
                kill_in_a_save(life, out, draw, before)
            else:
                kill_somewhere(life, draw, usual)
            code = life.end()
            assert code in (0, -signal.SIGKILL), life.words
            if code == 0:
                break
            counts["kills"] += 1
            counts["inside a save"] += bool(staged(out) - before)
        code, words = zygote.live(zygote.train(out))
        assert code == 0, words
        assert result_of(out) == whole, words
        assert not leftovers(out)
    return counts


def test_a_few_kills(zygote: Zygote, whole: Result, tmp_path: Path) -> None:
    counts = kill_often(zygote, whole, tmp_path, kills=6, inside=2, seed=1)
    assert counts["inside a save"] >= 2


def test_a_merge_that_is_killed_leaves_nothing_to_the_next(zygote: Zygote, tmp_path: Path) -> None:
    out, merged = tmp_path / "run", tmp_path / "merged"
    assert zygote.live(zygote.train(out, "train.max_steps=1"))[0] == 0
    merge = ["merge", "--adapter", str(out), "--out", str(merged)]
    life = zygote.begin(merge)
    while not list(tmp_path.glob(".merged.*/*")) and is_alive(life):
        pass
    os.kill(life.pid, signal.SIGKILL)
    assert life.end() == -signal.SIGKILL, life.words
    assert len(list(tmp_path.glob(".merged.*"))) == 1
    assert zygote.live(merge)[0] == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["merged", "run"]


@pytest.mark.slow
def test_a_hundred_kills(zygote: Zygote, whole: Result, tmp_path: Path) -> None:
    counts = kill_often(zygote, whole, tmp_path, kills=100, inside=30, seed=2)
    print(counts)
    assert counts["kills"] >= 100
    assert counts["inside a save"] >= 30
