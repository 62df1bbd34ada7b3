"""Linear layers that hold their weights quantised, and give them dequantised to whoever multiplies by them.

Products run in the model's own type, whatever the kind: what quantising saves is memory. So an adapter trains on the
very weights that it is merged into, and a token's answer does not depend on what stands beside it (decision 0013).

in, out = features of a layer.
"""

import logging
import sys
from abc import ABC, abstractmethod
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.config import CacheName, QuantizeName
from graft.errors import ConfigError, ModelError
from graft.runtime import free_memory, give_memory_back

BLOCK = 64
"""Weights of 4 bits that share a scale: QLoRA's (Dettmers et al. 2023, arXiv 2305.14314, section 3)."""

SCALES_BLOCK = 256
"""Scales of 8 bits that share a scale: the only size that bitsandbytes gives scales."""

CACHE_SHARE = 0.25
"""Of the free memory, what dequantised weights may take by themselves: the rest is the activations'."""


class QuantizedLinear(nn.Linear, ABC):
    """A frozen linear layer with a quantised weight (out, in), which is dequantised wherever it is asked for."""

    kept: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)  # nn.Linear's own would make a weight
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.register_parameter("bias", linear.bias)
        self.register_buffer("kept", None, persistent=False)
        self.dtype = linear.weight.dtype

    @property
    def weight(self) -> Tensor:  # type: ignore[override]  # there is nothing to write to
        """The dequantised weight (out, in), in the type of the one that was quantised."""
        return self._dequantized() if self.kept is None else self.kept

    def keep_dequantized(self) -> None:
        """Hold the dequantised weight beside the quantised one: the same bits, without the work."""
        self.kept = self._dequantized()

    @abstractmethod
    def requantized(self, weight: Tensor) -> Tensor:
        """Another weight (out, in) as it would be after quantising it like this one."""

    @abstractmethod
    def _dequantized(self) -> Tensor: ...


class Int8Linear(QuantizedLinear):
    """weight = codes * scales, a byte a weight and a scale a row, whose largest is 127 (arXiv 2208.07339, section 3.1).

    The values are bitsandbytes' own, whose CUDA kernel would round the weights to float16 first.
    """

    codes: Tensor
    scales: Tensor

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__(linear)
        weight = linear.weight.detach().float()
        largest = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-30)  # a row of zeros has codes of 0
        self.register_buffer("codes", (weight * (127 / largest)).round_().to(torch.int8))
        self.register_buffer("scales", largest / 127)

    def requantized(self, weight: Tensor) -> Tensor:
        return Int8Linear(_holding(weight, self.dtype)).weight

    def _dequantized(self) -> Tensor:
        return (self.codes * self.scales).to(self.dtype)


class FourBitLinear(QuantizedLinear):
    """weight = table[codes] * scales, half a byte a weight and a scale a block; `nf4` and `fp4` name tables.

    Args:
        double: the scales are quantised as well, to 8 bits around their mean (arXiv 2305.14314, section 3).
    """

    codes: Tensor
    scales: Tensor
    mean: Tensor | None
    scales_table: Tensor | None
    scales_scales: Tensor | None

    def __init__(self, linear: nn.Linear, kind: str, *, double: bool) -> None:
        super().__init__(linear)
        self.kind = kind
        codes, state = _bitsandbytes().quantize_4bit(
            linear.weight.detach().float(), blocksize=BLOCK, compress_statistics=double, quant_type=kind
        )
        self.register_buffer("codes", codes)
        self.register_buffer("scales", state.absmax)
        self.register_buffer("mean", state.offset)
        self.register_buffer("scales_table", state.state2.code if double else None)
        self.register_buffer("scales_scales", state.state2.absmax if double else None)

    def requantized(self, weight: Tensor) -> Tensor:
        return FourBitLinear(_holding(weight, self.dtype), self.kind, double=self.mean is not None).weight

    def _dequantized(self) -> Tensor:
        bnb, of_scales = _bitsandbytes(), None
        if self.mean is not None:
            of_scales = bnb.QuantState(
                self.scales_scales, code=self.scales_table, blocksize=SCALES_BLOCK, dtype=torch.float32
            )
        state = bnb.QuantState(
            self.scales,
            shape=torch.Size((self.out_features, self.in_features)),
            blocksize=BLOCK,
            quant_type=self.kind,
            dtype=torch.float32 if self.dtype == torch.float64 else self.dtype,  # float64 is for tests
            offset=self.mean,
            state2=of_scales,
        )
        weight: Tensor = bnb.dequantize_4bit(self.codes, state)
        return weight.to(self.dtype)


def _holding(weight: Tensor, dtype: torch.dtype) -> nn.Linear:
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.weight = nn.Parameter(weight.detach().to(dtype), requires_grad=False)
    return linear


def check_quantize(kind: QuantizeName) -> None:
    """Raise a ConfigError if this installation cannot quantise to `kind`."""
    if kind in ("nf4", "fp4"):
        _bitsandbytes()


def quantise(
    model: PreTrainedModel, kind: QuantizeName, *, double: bool, cache: CacheName, device: torch.device
) -> None:
    """Put a quantised layer on `device` in the place of every linear one but the output head, one after the other.

    Args:
        double: of `nf4` and `fp4`: quantise the scales too.
        cache: keep the dequantised weights as well; `auto`: where they take a small share of the memory that is free.

    Raises:
        ModelError: a layer holds what cannot be quantised.
    """
    head = model.get_output_embeddings()
    names = [n for n, module in model.named_modules() if isinstance(module, nn.Linear) and module is not head]
    for name in names:
        parent, _, leaf = name.rpartition(".")
        layer = _quantised(name, model.get_submodule(name).to(device), kind, double=double)
        setattr(model.get_submodule(parent), leaf, layer)
    give_memory_back()
    layers = [module for module in model.modules() if isinstance(module, QuantizedLinear)]
    needed = sum(layer.in_features * layer.out_features * layer.dtype.itemsize for layer in layers)
    if cache == "always" or (cache == "auto" and needed <= CACHE_SHARE * free_memory(device)):
        for layer in layers:
            layer.keep_dequantized()


def _quantised(name: str, linear: nn.Module, kind: QuantizeName, *, double: bool) -> QuantizedLinear:
    assert isinstance(linear, nn.Linear)
    if not bool(torch.isfinite(linear.weight).all()):
        dtype = str(linear.weight.dtype).removeprefix("torch.")
        raise ModelError(
            f"{name} cannot be quantised: in {dtype} it holds values that are no finite numbers",
            fix="set model.dtype to bfloat16 or float32, or fetch the weights again",
        )
    if kind == "int8":
        return Int8Linear(linear)
    if linear.in_features % 2:
        raise ModelError(
            f"{name} cannot be quantised to {kind}: it has {linear.in_features} inputs, and two weights share a byte",
            fix="set model.quantize to int8 or none",
        )
    return FourBitLinear(linear, kind, double=double)


def _bitsandbytes() -> Any:
    """The functions of bitsandbytes, imported when they are needed: it takes seconds."""
    if loaded := sys.modules.get("bitsandbytes.functional"):
        return loaded
    # With instructions for bfloat16 it would fetch a compiled kernel from the hub, which nothing here calls.
    kernels: ModuleType | None = sys.modules.get("kernels")
    sys.modules["kernels"] = None  # type: ignore[assignment]  # how Python marks what cannot be imported
    logging.getLogger("bitsandbytes.backends.cpu.ops").setLevel(logging.ERROR)
    try:
        from bitsandbytes import functional
    except ImportError as error:
        raise ConfigError(
            f"model.quantize: 4 bits need bitsandbytes, which cannot be imported: {error}",
            fix="pip install 'graft-llm[quant]', or set model.quantize to int8, which needs nothing more",
        ) from error
    finally:
        del sys.modules["kernels"]
        if kernels is not None:
            sys.modules["kernels"] = kernels
    return functional
