"""Tensors -> a safetensors file, piece by piece: no copy of all of it is made, and every byte goes by `staging`.

The bytes are those of the `safetensors` library, which reads them.
"""

import json
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

# In the library's order, in which the larger types come first in a file.
_NAMES = {
    torch.bool: "BOOL", torch.uint8: "U8", torch.int8: "I8", torch.int16: "I16", torch.float16: "F16",
    torch.bfloat16: "BF16", torch.int32: "I32", torch.float32: "F32", torch.float64: "F64", torch.int64: "I64",
}  # fmt: skip
_RANKS = {dtype: rank for rank, dtype in enumerate(_NAMES)}


class TensorFile:
    """The content of a safetensors file.

    Args:
        tensors: on the CPU; they are not copied.
        metadata: texts that stand in the header.
    """

    def __init__(self, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
        self._tensors = sorted(tensors.items(), key=lambda item: (-_RANKS[item[1].dtype], item[0].encode()))
        header: dict[str, object] = {"__metadata__": dict(metadata)}
        end = 0
        for name, tensor in self._tensors:
            begin, end = end, end + tensor.nbytes
            shape = list(tensor.shape)
            header[name] = {"dtype": _NAMES[tensor.dtype], "shape": shape, "data_offsets": [begin, end]}
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        self._header = text + b" " * (-len(text) % 8)  # tensors begin at a multiple of 8
        self.size = 8 + len(self._header) + end

    def __iter__(self) -> Iterator[bytes | memoryview]:
        yield len(self._header).to_bytes(8, "little") + self._header
        for _, tensor in self._tensors:
            yield tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data
