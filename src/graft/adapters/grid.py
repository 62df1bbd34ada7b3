"""LoRA that trains against its base's quantiser, so that merging and quantising again changes nothing.

Plain QLoRA adds its product to weights that stand on a grid; quantising the sum puts most of them back where they were.
Here the layer computes with the sum as it will be after quantising, and the gradient passes the rounding straight
through (Bengio et al. 2013, arXiv 1308.3432), as if it were not there.
"""

from collections.abc import Mapping
from typing import Any, cast

import torch.nn.functional as F
from torch import Tensor, nn

from graft.adapters.lora_graft import LoraGraft
from graft.adapters.low_rank import LowRank
from graft.errors import AdapterError


def check_grid(layers: Mapping[str, nn.Module]) -> None:
    """Raise an AdapterError if one of `layers` has no grid to train against."""
    if plain := [name for name, layer in layers.items() if not hasattr(layer, "requantized")]:
        what = f"lora.quantization_aware: {plain[0]} is not quantised"
        raise AdapterError(what, fix="set model.quantize, or leave it off")


class GridLoraGraft(LoraGraft):
    """y = quantised(W + scaling * B A) x."""

    @property
    def in_one_step(self) -> bool:
        return False

    @property
    def stands_alone(self) -> bool:
        return True

    def low_rank(self) -> LowRank | None:
        return None

    def forward(self, states: Tensor, output: Tensor | None, base: nn.Module) -> Tensor:
        bias = getattr(base, "bias", None)
        weight = self._on_grid(base)
        return F.linear(states, weight.to(states.dtype), None if bias is None else bias.to(states.dtype))

    def merged(self, base: nn.Module) -> dict[str, Tensor]:
        return {"weight": self._on_grid(base).detach().float()}

    def _on_grid(self, base: nn.Module) -> Tensor:
        lora_A, lora_B = self.factors()
        weight = cast(Tensor, base.weight).float() + self.scaling * (lora_B @ lora_A)
        rounded: Tensor = cast(Any, base).requantized(weight.detach())
        return weight + (rounded.float() - weight).detach()
