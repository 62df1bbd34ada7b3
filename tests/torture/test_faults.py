"""A disk that fails: whatever call of the operating system it is, what was whole stays whole and the run goes on."""

import shutil
from pathlib import Path

import pytest

from graft.errors import DiskError
from graft.staging import manifest_fault
from tests.torture.conftest import Result, Zygote, leftovers, result_of
from tests.torture.zygote import CALLS

SHORT = ("train.max_steps=4", "train.eval_every=3", "checkpoint.keep=1")


def is_survived(zygote: Zygote, expected: Result, out: Path, call: str, number: int, name: str, metrics: bool) -> bool:
    """Live with this call failing, and once more without; False where the call did not come so often."""
    fault = {"call": call, "number": number, "name": name, "below": str(out), "metrics": metrics}
    code, words = zygote.live(zygote.train(out, *SHORT), fault=fault)
    case = f"{fault}\n{words}"
    if not Path(f"{out}.broken").exists():
        assert code == 0, case
        return False
    assert code == DiskError.exit_code, case
    assert "Traceback" not in words, case
    said = words.rstrip().splitlines()[-2:]
    assert said[0].startswith("graft: "), case
    assert {"ENOSPC": "No space left on device", "EIO": "Input/output error"}[name] in said[0], case
    assert str(out) in said[0], case
    assert said[1].startswith("  -> "), case
    checkpoints = sorted((out / "checkpoints").glob("step-*"))
    saved = [line for line in words.splitlines() if ": checkpoint " in line]
    assert not saved or checkpoints, case
    assert not [manifest_fault(folder) for folder in checkpoints if manifest_fault(folder)], case
    code, words = zygote.live(zygote.train(out, *SHORT))
    assert code == 0, f"{case}\nand then\n{words}"
    assert result_of(out) == expected, case
    assert not leftovers(out), case
    return True


@pytest.fixture(scope="module")
def expected(zygote: Zygote, tmp_path_factory: pytest.TempPathFactory) -> Result:
    out = tmp_path_factory.mktemp("expected") / "run"
    assert zygote.live(zygote.train(out, *SHORT))[0] == 0
    return result_of(out)


@pytest.mark.parametrize(("call", "number", "name"), [("write", 17, "ENOSPC"), ("fsync", 12, "EIO")])
def test_a_call_that_fails(call: str, number: int, name: str, zygote: Zygote, expected: Result, tmp_path: Path) -> None:
    assert is_survived(zygote, expected, tmp_path / "run", call, number, name, metrics=False)


@pytest.mark.parametrize(("limit", "at"), [(3_900, "step-000002"), (14_000, "the result")])
def test_a_file_that_the_system_does_not_take(
    limit: int, at: str, zygote: Zygote, expected: Result, tmp_path: Path
) -> None:
    """A limit of the system itself, at a checkpoint and at the report, which is twice as long as any file of those."""
    out = tmp_path / "run"
    code, words = zygote.live(zygote.train(out, *SHORT), longest_file=limit)
    assert code == DiskError.exit_code, words
    assert at in words
    assert "cannot be written: File too large" in words
    code, words = zygote.live(zygote.train(out, *SHORT))
    assert code == 0, words
    assert result_of(out) == expected


def test_a_merge_that_the_system_does_not_take(zygote: Zygote, tmp_path: Path) -> None:
    out, merged = tmp_path / "run", tmp_path / "merged"
    assert zygote.live(zygote.train(out, "train.max_steps=1"))[0] == 0
    for limit in (500, 1_000_000):  # for the configuration, and for the weights
        code, words = zygote.live(["merge", "--adapter", str(out), "--out", str(merged)], longest_file=limit)
        assert code == DiskError.exit_code, words
        assert f"{merged} cannot be written: " in words
        assert "Traceback" not in words
        assert [path.name for path in tmp_path.iterdir()] == ["run"]


@pytest.mark.slow
@pytest.mark.parametrize("metrics", [False, True])
@pytest.mark.parametrize("name", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("call", CALLS)
def test_every_call_that_fails(
    call: str, name: str, metrics: bool, zygote: Zygote, expected: Result, tmp_path: Path
) -> None:
    number = 1
    while is_survived(zygote, expected, tmp_path / str(number), call, number, name, metrics):
        shutil.rmtree(tmp_path / str(number))
        number += 1
    print(f"{call} {name}{' of metrics' if metrics else ''}: {number - 1}")
    assert number > 1 or (metrics and call in ("rename", "mkdir"))
