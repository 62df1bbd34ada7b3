"""LoRA: W x + scaling * B A x with A (r, in) and B (out, r) trained and W frozen (Hu et al. 2021, arXiv 2106.09685).

scaling = lora_alpha / r, or lora_alpha / sqrt(r) with rsLoRA (Kalajdzievski 2023, arXiv 2312.03732).
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.adapters.contract import Adapter, Graft
from graft.adapters.low_rank import LowRank
from graft.adapters.targets import biased_layers, linear_layers, shortest_names, target_layers
from graft.config import LoraConfig
from graft.errors import AdapterError
from graft.runtime import derived_seed

# Keys of PEFT's file that say nothing about the answer. Every other one that we do not read must be empty or off.
_INERT = {
    "auto_mapping",
    "base_model_name_or_path",
    "inference_mode",
    "megatron_core",
    "peft_type",
    "peft_version",
    "qalora_group_size",
    "revision",
    "task_type",
}
_READ = {"r", "lora_alpha", "lora_dropout", "target_modules", "bias", "use_rslora", "init_lora_weights"}
# Ways to begin that leave the base's weights as they are; others (PiSSA, CorDA, ...) take something out of them.
_PLAIN_BEGINNINGS = (None, True, False, "gaussian", "orthogonal", "eva")


class LoraGraft(Graft):
    """The two low-rank matrices of one layer, and a bias of its own where biases train."""

    def __init__(
        self, lora_A: Tensor, lora_B: Tensor, *, scaling: float, dropout: float, bias: Tensor | None = None
    ) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(lora_A)
        self.lora_B = nn.Parameter(lora_B)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.scaling = scaling
        self.dropout = dropout

    def low_rank(self) -> LowRank | None:
        plain = self.bias is None and not (self.training and self.dropout)
        return LowRank(self.lora_A, self.lora_B, self.scaling) if plain else None

    def forward(self, states: Tensor, output: Tensor, base: nn.Linear) -> Tensor:
        dropped = F.dropout(states.to(self.lora_A.dtype), self.dropout, self.training)
        delta = F.linear(F.linear(dropped, self.lora_A), self.lora_B) * self.scaling
        output = output + delta.to(output.dtype)
        return output if self.bias is None else _with_bias(output, base, self.bias)

    def merged(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        delta = self.scaling * (self.lora_B.detach().float() @ self.lora_A.detach().float())
        return weight.float() + delta, bias if self.bias is None else self.bias.detach().float()

    def peft_tensors(self) -> dict[str, nn.Parameter]:
        tensors = {"lora_A.weight": self.lora_A, "lora_B.weight": self.lora_B}
        return tensors if self.bias is None else {**tensors, "base_layer.bias": self.bias}


class BiasGraft(Graft):
    """A bias of its own for a layer that LoRA leaves alone (`bias: all`). The base's stays as it is."""

    def __init__(self, bias: Tensor) -> None:
        super().__init__()
        self.bias = nn.Parameter(bias)

    def forward(self, states: Tensor, output: Tensor, base: nn.Linear) -> Tensor:
        return _with_bias(output, base, self.bias)

    def merged(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        return weight.float(), self.bias.detach().float()

    def peft_tensors(self) -> dict[str, nn.Parameter]:
        return {"bias": self.bias}


class Lora:
    """The method `lora`."""

    peft_type = "LORA"

    def create(self, model: PreTrainedModel, settings: LoraConfig, *, seed: int) -> Adapter:
        targets = target_layers(model, settings.target_modules)
        biases = {} if settings.bias == "none" else biased_layers(model)
        grafts: dict[str, Graft] = {}
        for name, layer in targets.items():
            _check_rank(name, layer, settings.r)
            generator = torch.Generator().manual_seed(derived_seed(seed, "lora", name))
            lora_A = torch.empty(settings.r, layer.in_features)
            nn.init.kaiming_uniform_(lora_A, a=math.sqrt(5), generator=generator)  # as PEFT and the LoRA authors do
            grafts[name] = LoraGraft(
                lora_A,
                torch.zeros(layer.out_features, settings.r),
                scaling=settings.lora_alpha / (math.sqrt(settings.r) if settings.use_rslora else settings.r),
                dropout=settings.lora_dropout,
                bias=_own_bias(layer) if name in biases else None,
            )
        if settings.bias == "all":
            grafts.update({name: BiasGraft(_copy_of(bias)) for name, bias in biases.items() if name not in targets})
        return Adapter("lora", settings, grafts)

    def peft_config(self, adapter: Adapter, model: PreTrainedModel) -> dict[str, Any]:
        settings = adapter.settings
        targets = [name for name, graft in adapter.grafts.items() if isinstance(graft, LoraGraft)]
        return {
            "peft_type": self.peft_type,
            "task_type": "CAUSAL_LM",
            "inference_mode": True,
            "r": settings.r,
            "lora_alpha": settings.lora_alpha,
            "lora_dropout": settings.lora_dropout,
            "target_modules": shortest_names(targets, linear_layers(model)),
            "bias": settings.bias,
            "use_rslora": settings.use_rslora,
            "use_dora": False,
            "fan_in_fan_out": False,
            "init_lora_weights": True,
            "modules_to_save": None,
            "rank_pattern": {},
            "alpha_pattern": {},
        }

    def settings_of(self, peft_config: Mapping[str, Any]) -> LoraConfig:
        foreign = sorted(k for k, v in peft_config.items() if v and k not in _INERT and k not in _READ)
        if peft_config.get("init_lora_weights") not in _PLAIN_BEGINNINGS:
            foreign.append("init_lora_weights")
        if foreign:
            said = ", ".join(f"{key}: {peft_config[key]!r}" for key in foreign)
            raise AdapterError(f"the adapter asks for what LoRA here does not do: {said}", fix="convert it with PEFT")
        return LoraConfig.model_validate({k: peft_config[k] for k in LoraConfig.model_fields if k in peft_config})


def _check_rank(name: str, layer: nn.Linear, r: int) -> None:
    if r > (limit := min(layer.in_features, layer.out_features)):
        shape = f"{layer.out_features} x {layer.in_features}"
        raise AdapterError(f"lora.r {r} is above the rank of {name} ({shape})", fix=f"set lora.r to at most {limit}")


def _own_bias(layer: nn.Linear) -> Tensor | None:
    return None if layer.bias is None else _copy_of(layer.bias)


def _copy_of(bias: Tensor) -> Tensor:
    return bias.detach().to("cpu", torch.float32, copy=True)


def _with_bias(output: Tensor, base: nn.Linear, bias: Tensor) -> Tensor:
    """`output` with `bias` in the place of the base's: the base itself is never changed, so off is the base again."""
    return output + (bias - base.bias.to(bias.dtype)).to(output.dtype)
