"""Which step is the best, and when it is time to stop."""

from typing import Any

import pytest

from graft.training import Selection


def taken(selection: Selection, *figures: float, name: str = "loss") -> list[bool]:
    return [selection.take(step, {"loss": 1.0, name: figure}) for step, figure in enumerate(figures, start=1)]


def test_the_lowest_loss_is_the_best() -> None:
    selection = Selection("loss")
    assert taken(selection, 3.0, 2.0, 2.5, 1.9, 1.9) == [True, True, False, True, False]
    assert selection.step == 4
    assert selection.metrics == {"loss": 1.9}
    assert not selection.why_stop, "without patience it goes on"


@pytest.mark.parametrize("name", ["exact_match", "rouge_l"])
def test_of_answers_the_highest_figure_is_the_best(name: str) -> None:
    selection = Selection(name)
    assert taken(selection, 0.1, 0.4, 0.3, name=name) == [True, True, False]
    assert selection.step == 2


def test_the_last_needs_no_figure() -> None:
    selection = Selection("last")
    assert taken(selection, 3.0, 4.0) == [False, False]
    assert selection.step is None
    assert selection.metrics == {"loss": 4.0}, "it is told at the end"


def test_patience_counts_measurements_without_a_gain() -> None:
    selection = Selection("loss", patience=2)
    taken(selection, 3.0, 3.5)
    assert not selection.why_stop
    selection.take(3, {"loss": 2.9})
    selection.take(4, {"loss": 3.0})
    assert not selection.why_stop, "a gain begins it anew"
    selection.take(5, {"loss": 3.0})
    assert selection.why_stop == "2 measurements in a row gave no gain in held-out loss; step 3 is the best"


def test_a_small_gain_is_the_best_and_does_not_renew_patience() -> None:
    selection = Selection("loss", patience=3, min_gain=0.1)
    assert taken(selection, 3.0, 2.95, 2.91) == [True, True, True]
    assert not selection.why_stop
    selection.take(4, {"loss": 2.905})
    assert selection.why_stop, "0.095 in all"
    assert selection.step == 4
    slow = Selection("loss", patience=3, min_gain=0.1)
    taken(slow, 3.0, 2.95, 2.89, 2.85, 2.84)
    assert not slow.why_stop, "gains that add up are a gain"


def test_it_follows_from_the_lines_of_the_metrics_file_alone() -> None:
    lines: list[dict[str, Any]] = [{"step": step, "loss": 1.0} for step in range(1, 8)]
    for step, loss, rouge in ((2, 3.0, 0.5), (4, 2.0, 0.7), (6, 2.5, 0.6)):
        lines[step - 1] |= {"held_out_loss": loss, "held_out": {"rouge_l": rouge}}
    live, replayed = Selection("rouge_l", patience=1), Selection("rouge_l", patience=1)
    for line in lines:
        if "held_out_loss" in line:
            live.take(line["step"], {"loss": line["held_out_loss"], **line["held_out"]})
    for _ in range(2):
        replayed.replay(lines)
        assert (replayed.step, replayed.metrics, replayed.why_stop) == (live.step, live.metrics, live.why_stop)
    assert live.step == 4
    replayed.replay(lines, gone=[4])
    assert replayed.step == 6
