import pytest
import torch
from torch import Tensor

import graft.bench.limit
from graft.bench.limit import measure_limit

SHAPES = [(32, 64, 2, False), (48, 32, 1, True)]


def test_operations_over_the_time_of_every_product(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[torch.Size, torch.Size]] = []

    def a_second(left: Tensor, right: Tensor) -> float:
        seen.append((left.shape, right.shape))
        return 1.0

    monkeypatch.setattr(graft.bench.limit, "_median_seconds", a_second)
    operations = 4 * (2 * 2048 * 32 * 64 + 512 * 48 * 32)  # forward and backward, the first layer twice
    assert measure_limit(SHAPES, "float32") == pytest.approx(operations / 6)
    assert seen == [((2048, 64), (64, 32)), ((2048, 32), (32, 64)), ((512, 32), (32, 48)), ((512, 48), (48, 32))]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_run_in_the_type(dtype: str) -> None:
    assert measure_limit(SHAPES, dtype) > 0
