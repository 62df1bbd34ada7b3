from pathlib import Path

import pytest

from graft.errors import RunError
from graft.training import (
    Bystander,
    Ended,
    Evaluated,
    Event,
    MetricsFile,
    Saved,
    Started,
    Stepped,
    Warned,
    read_metrics,
)


def stepped(step: int, held_out_loss: float | None = None) -> Stepped:
    return Stepped(
        step=step,
        time=1.5,
        loss=0.1 * step,
        lr=1e-4,
        grad_norm=0.5,
        samples=4,
        tokens_logical=40,
        tokens_executed=30,
        tokens_trained=10,
        peak_memory_bytes=1 << 40,
        held_out_loss=held_out_loss,
    )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "metrics.jsonl"


def steps(path: Path) -> list[int]:
    return [line["step"] for line in read_metrics(path)]


def test_a_step_is_a_line_and_nothing_else_is(path: Path) -> None:
    metrics = MetricsFile(path)
    others = (Saved(1, path.parent), Evaluated(1, {"loss": 2.0}), Warned(1, "odd"), Ended(2, "done", True))
    for event in (Started(0, 2, 3.0), stepped(1), *others, stepped(2, held_out_loss=2.5)):
        metrics(event)
    assert steps(path) == [1, 2]
    first, second = read_metrics(path)
    assert "held_out_loss" not in first
    assert second["held_out_loss"] == 2.5
    assert second["loss"] == 0.2  # to the last bit
    assert second["peak_memory_bytes"] == 1 << 40


def test_a_line_can_be_read_while_the_run_goes_on(path: Path) -> None:
    metrics = MetricsFile(path)
    assert steps(path) == []
    metrics(stepped(1))
    assert steps(path) == [1]


def test_a_line_that_a_crash_left_unfinished_is_not_counted(path: Path) -> None:
    metrics = MetricsFile(path)
    metrics(stepped(1))
    metrics(stepped(2))
    whole = path.read_bytes()
    for cut in (1, 20, 100):
        path.write_bytes(whole[:-cut])
        assert steps(path) == [1]


@pytest.mark.parametrize("line", [b'{"step": 2, "lo\xff": 1}\n', b"5\n", b"{}\n", b"\0\0\n"])
def test_a_line_that_is_no_record_is_said_to_be_broken(line: bytes, path: Path) -> None:
    MetricsFile(path)(stepped(1))
    path.write_bytes(path.read_bytes() + line)
    with pytest.raises(RunError, match=r"metrics\.jsonl.* is broken"):
        read_metrics(path)


def test_a_resumed_run_writes_the_steps_after_its_checkpoint_again(path: Path) -> None:
    metrics = MetricsFile(path)
    for step in (1, 2, 3):
        metrics(stepped(step))
    path.write_bytes(path.read_bytes() + b'{"step": 4, "lo')
    kept = read_metrics(path)[:2]
    resumed = MetricsFile(path, step=2)
    assert read_metrics(path) == kept
    resumed(stepped(3))
    assert steps(path) == [1, 2, 3]


def test_a_new_run_begins_an_empty_file_and_a_missing_one_has_no_lines(path: Path) -> None:
    assert read_metrics(path) == []
    MetricsFile(path)(stepped(1))
    MetricsFile(path)
    assert path.exists()
    assert steps(path) == []


def test_a_bystander_that_fails_is_told_no_more_and_that_is_said_once() -> None:
    told: list[Event] = []
    said: list[str] = []

    def fail(event: Event) -> None:
        told.append(event)
        if isinstance(event, Stepped):
            raise OSError("no connection")

    bystander = Bystander("the tracker", fail, said.append)
    for event in (Started(0, 2, None), stepped(1), stepped(2)):
        bystander(event)
    assert told == [Started(0, 2, None), stepped(1)]
    assert said == ["the tracker fails and is told no more of the run, which goes on: OSError: no connection"]


def test_a_bystander_does_not_swallow_what_stops_a_run() -> None:
    def stop(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Bystander("one", stop, print)(stepped(1))


def test_a_bystander_that_wants_to_leave_does_not_take_the_run_along() -> None:
    said: list[str] = []

    def leave(event: Event) -> None:
        raise SystemExit(0)

    Bystander("the tracker", leave, said.append)(stepped(1))
    assert said == ["the tracker fails and is told no more of the run, which goes on: SystemExit: 0"]


def test_a_warning_reads_as_a_sentence() -> None:
    assert str(Warned(3, "odd rows", ["a.json:1", "a.json:2"])) == "step 3: odd rows: a.json:1, a.json:2"
    assert str(Warned(3, "less memory")) == "step 3: less memory"
