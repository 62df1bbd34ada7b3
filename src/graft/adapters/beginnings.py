"""How LoRA's A (r, in) and B (out, r) begin. Every beginning answers as the base."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from graft.errors import AdapterError
from graft.runtime import derived_seed

_POWER_ITERATIONS = 8
"""Of the randomised decomposition (Halko et al. 2011, arXiv 0909.4061): twice the 4 that suffice for fast decay."""


@dataclass(frozen=True)
class Beginning:
    """The first A and B; where their product is not 0, `off_A` is A again, and the product is taken off."""

    lora_A: Tensor
    lora_B: Tensor
    off_A: Tensor | None = None


def beginning(kind: str, layer: nn.Linear, r: int, *, seed: int, name: str, scaling: float) -> Beginning:
    """A and B of rank `r` for the layer `name`, in float32."""
    own_seed = derived_seed(seed, "lora", name)
    generator = torch.Generator().manual_seed(own_seed)
    if kind == "pissa":
        return _pissa(layer, r, seed=own_seed, scaling=scaling)
    if kind == "orthogonal":
        return _orthogonal(layer, r, generator, name)
    lora_A = torch.empty(r, layer.in_features)
    nn.init.kaiming_uniform_(lora_A, a=math.sqrt(5), generator=generator)  # as PEFT and the LoRA authors do
    return Beginning(lora_A, torch.zeros(layer.out_features, r))


def _pissa(layer: nn.Linear, r: int, *, seed: int, scaling: float) -> Beginning:
    """Eq. 2 and 3 of Meng et al. 2024 (arXiv 2404.02948): scaling * B A is the best approximation of W of rank r."""
    weight = layer.weight.detach().float()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        few = min(r + 8, *weight.shape)
        left, values, right = torch.svd_lowrank(weight, q=few, niter=_POWER_ITERATIONS)
    root = (values[:r] / scaling).sqrt()
    lora_A = (right[:, :r] * root).t().contiguous().cpu()
    return Beginning(lora_A, (left[:, :r] * root).contiguous().cpu(), lora_A.clone())


def _orthogonal(layer: nn.Linear, r: int, generator: torch.Generator, name: str) -> Beginning:
    """A and B of random directions whose ranks are orthogonal to one another, so that B A is 0, as PEFT makes them."""
    if r % 2:
        raise AdapterError(f"lora.init orthogonal needs an even rank, and {name} has {r}", fix="set an even lora.r")
    turned, _ = torch.linalg.qr(torch.randn(r, r, generator=generator))
    lora_A = torch.randn(layer.in_features, r // 2, generator=generator) @ turned[0::2] / 10
    lora_B = torch.randn(layer.out_features, r // 2, generator=generator) @ turned[1::2] / 10
    return Beginning(lora_A.t().contiguous(), lora_B)
