from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load, load_file, save
from torch import Tensor

from graft.staging import write_file
from graft.tensor_file import TensorFile

DTYPES = (
    torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64,
    torch.float16, torch.bfloat16, torch.float32, torch.float64,
)  # fmt: skip


def tensor(dtype: torch.dtype, shape: list[int]) -> Tensor:
    count = torch.Size(shape).numel()
    return torch.arange(count).remainder(2 if dtype == torch.bool else 100).to(dtype).reshape(shape)


tensors = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda name: name != "__metadata__"),
    st.builds(tensor, st.sampled_from(DTYPES), st.lists(st.integers(0, 3), max_size=3)),
    max_size=6,
)


@given(tensors, st.text(max_size=5))
def test_the_bytes_are_those_of_the_library(given_tensors: dict[str, Tensor], word: str) -> None:
    file = TensorFile(given_tensors, {"format": word})
    content = b"".join(bytes(piece) for piece in file)
    assert file.size == len(content)
    read = load(content)
    assert read.keys() == given_tensors.keys()
    for name, expected in given_tensors.items():
        assert read[name].dtype == expected.dtype
        assert torch.equal(read[name], expected)
    if all(name.isalnum() and name.isascii() for name in given_tensors):  # of others it escapes some
        assert content == save(given_tensors, {"format": word})


def test_what_is_no_block_of_memory_is_written_in_order(tmp_path: Path) -> None:
    square = torch.arange(6.0).reshape(2, 3)
    write_file(tmp_path / "file", TensorFile({"turned": square.T, "row": square[1]}, {}))
    read = load_file(tmp_path / "file")
    assert torch.equal(read["turned"], square.T)
    assert torch.equal(read["row"], square[1])


def test_it_can_be_written_twice() -> None:
    file = TensorFile({"a": torch.ones(3)}, {})
    assert [bytes(piece) for piece in file] == [bytes(piece) for piece in file]


def test_a_type_that_no_adapter_has_is_an_error() -> None:
    with pytest.raises(KeyError):
        TensorFile({"a": torch.ones(3, dtype=torch.complex64)}, {})
