"""The optimizers that work on this machine."""

import pytest

from graft.runtime import pick_device
from graft.training.optimizer import OPTIMIZERS

DEVICE = pick_device()


def every_optimizer() -> pytest.MarkDecorator:
    """Run a test with each optimizer's `name`; one that does not work here is skipped with the reason."""
    return pytest.mark.parametrize("name", [pytest.param(name, marks=_skipped(name)) for name in OPTIMIZERS])


def _skipped(name: str) -> list[pytest.MarkDecorator]:
    kind = OPTIMIZERS[name]
    if kind.works_on(DEVICE):
        return []
    return [pytest.mark.skip(f"{name} needs {'a CUDA device and ' if kind.paged else ''}{kind.library}")]
