import pytest

from graft.bench.limit import measure_limit


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_rate_that_machines_have(dtype: str) -> None:
    assert 1e7 < measure_limit([(32, 64, 2, False), (48, 32, 1, True)], dtype) < 1e16
