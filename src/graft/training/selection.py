"""Which step's adapter is handed over, and whether it is time to stop."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

HIGHER_IS_BETTER = {"loss": False, "exact_match": True, "rouge_l": True}
"""Figures that a run can be steered by."""


class Selection:
    """The best step so far, by a figure of the held-out rows. It follows from the figures alone.

    Args:
        by: the figure's name; "last" for the last step, whatever was measured.
        patience: measurements in a row without a gain, after which the run stops; 0 for never.
        min_gain: what the figure must have become better by for a measurement to be one with a gain.
    """

    def __init__(self, by: str = "last", *, patience: int = 0, min_gain: float = 0.0) -> None:
        self.by = by
        self._patience = patience
        self._min_gain = min_gain
        self.step: int | None = None
        """The best; None as long as nothing was measured after a step, or where the last is wanted."""
        self.metrics: Mapping[str, float] = {}
        """What was measured after it; where the last step is wanted, what was measured last."""
        self._mark: float | None = None  # the figure at the last gain
        self._waited = 0

    def take(self, step: int, metrics: Mapping[str, float]) -> bool:
        """Whether `step`, after which `metrics` were measured, is the best so far."""
        if self.by == "last":
            self.metrics = metrics
        if self.by not in metrics:
            return False
        value = self._worth(metrics)
        if self._mark is None or value > self._mark + self._min_gain:
            self._mark, self._waited = value, 0
        else:
            self._waited += 1
        best = self.step is None or value > self._worth(self.metrics)
        if best:
            self.step, self.metrics = step, metrics
        return best

    def replay(self, lines: Iterable[Mapping[str, Any]], *, gone: Collection[int] = ()) -> None:
        """Take what lines of `metrics.jsonl` say, as if nothing had been taken before.

        Args:
            gone: steps whose adapter is not to be had.
        """
        self.step, self.metrics, self._mark, self._waited = None, {}, None, 0
        for line in lines:
            if "held_out_loss" in line and line["step"] not in gone:
                self.take(line["step"], {"loss": line["held_out_loss"], **line.get("held_out", {})})

    @property
    def why_stop(self) -> str:
        """Why the run ends here; "" where it goes on."""
        if not self._patience or self._waited < self._patience:
            return ""
        return f"{self._waited} measurements in a row gave no gain in held-out {self.by}; step {self.step} is the best"

    def _worth(self, metrics: Mapping[str, float]) -> float:
        return metrics[self.by] if HIGHER_IS_BETTER[self.by] else -metrics[self.by]
