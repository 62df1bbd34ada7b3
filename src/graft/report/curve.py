"""The picture of a run: loss of each step and on held-out data."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib import style
from matplotlib.figure import Figure


def loss_curve(steps: Sequence[Mapping[str, Any]], first_loss: float | None) -> str:
    """An SVG element, from lines of `metrics.jsonl`; its bytes depend on them alone."""
    with style.context(["default", {"svg.hashsalt": "graft", "svg.fonttype": "none"}]):  # not the user's own style
        target = io.StringIO()
        _draw(steps, first_loss).savefig(target, format="svg", metadata={"Date": None})
    svg = target.getvalue()
    return svg[svg.index("<svg") :]


def _draw(steps: Sequence[Mapping[str, Any]], first_loss: float | None) -> Figure:
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axes = figure.subplots()
    losses = [(s["step"], s["loss"]) for s in steps if "loss" in s]  # a step that was left out has none
    axes.plot(*zip(*losses, strict=True), color="#4a7ebb", linewidth=1, label="training")
    held_out = [(s["step"], s["held_out_loss"]) for s in steps if "held_out_loss" in s]
    if first_loss is not None:
        held_out.insert(0, (0, first_loss))
    if held_out:
        axes.plot(*zip(*held_out, strict=True), color="#c0504d", marker="o", markersize=4, label="held out")
    axes.set_xlabel("step")
    axes.set_ylabel("loss (nats per trained token)")
    axes.grid(alpha=0.3)
    axes.legend()
    return figure
