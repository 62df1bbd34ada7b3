import xml.etree.ElementTree as ElementTree

from matplotlib import rc_context

from graft.report.curve import loss_curve

STEPS = [{"step": 1, "loss": 2.5}, {"step": 2, "loss": 2.0, "held_out_loss": 2.25}, {"step": 3, "loss": 1.5}]


def test_the_picture_depends_on_the_figures_alone() -> None:
    once = loss_curve(STEPS, 2.6)
    assert loss_curve(STEPS, 2.6) == once
    assert loss_curve(STEPS, 2.5) != once
    with rc_context({"axes.facecolor": "red", "svg.hashsalt": None, "font.size": 30, "lines.linewidth": 9}):
        assert loss_curve(STEPS, 2.6) == once  # whatever style the user has set up for other pictures


def test_the_picture_is_one_svg_element_whose_words_are_words() -> None:
    svg = loss_curve(STEPS, 2.6)
    root = ElementTree.fromstring(svg)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    words = {element.text for element in root.iter("{http://www.w3.org/2000/svg}text")}
    assert {"step", "training", "held out"} <= words


def test_a_run_that_measures_nothing_has_no_second_line() -> None:
    assert "held out" not in loss_curve([{"step": 1, "loss": 2.5}], None)
    assert "held out" in loss_curve([{"step": 1, "loss": 2.5}], 2.6)
