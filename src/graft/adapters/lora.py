"""The method `lora`, with rsLoRA and DoRA as options.

scaling = lora_alpha / r, or lora_alpha / sqrt(r) with rsLoRA (Kalajdzievski 2023, arXiv 2312.03732).
"""

import math
import re
from collections.abc import Collection, Mapping
from typing import Any, TypeVar

from torch import nn
from transformers import PreTrainedModel

from graft.adapters.beginnings import beginning
from graft.adapters.contract import Adapter, Encode, Graft
from graft.adapters.dora import DoraGraft
from graft.adapters.grid import GridLoraGraft, check_grid
from graft.adapters.lora_graft import LoraGraft
from graft.adapters.own import BiasGraft, own_copy, own_grafts
from graft.adapters.peft_lora import lora_peft_config, lora_settings_of
from graft.adapters.targets import biased_layers, linear_layers, named_modules, target_layers
from graft.errors import AdapterError
from graft.sections import LoraConfig

Value = TypeVar("Value")


class Lora:
    """Low-rank products on linear layers."""

    peft_types = ("LORA",)

    def create(
        self, model: PreTrainedModel, settings: LoraConfig, *, seed: int, encode: Encode | None = None
    ) -> Adapter:
        whole = named_modules(model, settings.modules_to_save, setting="lora.modules_to_save")
        targets = target_layers(model, settings.target_modules)
        _check_together(targets, whole, settings)
        _check_patterns(targets, settings)
        biases = {} if settings.bias == "none" else biased_layers(model)
        grafts: dict[str, Graft] = {}
        for name, layer in targets.items():
            r = _of_pattern(settings.rank_pattern, name, settings.r)
            alpha = _of_pattern(settings.alpha_pattern, name, settings.lora_alpha)
            _check_rank(name, layer, r, init=settings.init)
            scaling = alpha / (math.sqrt(r) if settings.use_rslora else r)
            kind = GridLoraGraft if settings.quantization_aware else LoraGraft
            graft = kind(
                beginning(settings.init, layer, r, seed=seed, name=name, scaling=scaling),
                scaling=scaling,
                dropout=settings.lora_dropout,
                bias=own_copy(layer.bias) if name in biases and layer.bias is not None else None,
            )
            grafts[name] = DoraGraft(graft, layer) if settings.use_dora else graft
        if settings.bias == "all":
            layers = linear_layers(model)
            grafts.update({name: BiasGraft(layers[name]) for name in biases if name not in targets})
        return Adapter("lora", settings, {**grafts, **own_grafts(whole)})

    def peft_config(self, adapter: Adapter, model: PreTrainedModel) -> dict[str, Any]:
        return lora_peft_config(adapter, model)

    def settings_of(self, peft_config: Mapping[str, Any], tensors: Collection[str]) -> LoraConfig:
        return lora_settings_of(peft_config)


def _check_together(targets: Mapping[str, nn.Linear], whole: Mapping[str, nn.Module], settings: LoraConfig) -> None:
    """Raise an AdapterError if the settings do not go together."""
    both = sorted(targets.keys() & whole.keys())
    if both:
        raise AdapterError(
            f"lora.modules_to_save: {both[0]} has LoRA as well", fix="name it in one of target_modules, modules_to_save"
        )
    if settings.use_dora and settings.init == "pissa":
        raise AdapterError("lora.use_dora and lora.init pissa do not go together", fix="set one of them")
    if settings.quantization_aware:
        check_grid(targets)
        others = {"use_dora": settings.use_dora, "lora_dropout": settings.lora_dropout, "bias": settings.bias != "none"}
        if asked := [name for name, value in others.items() if value]:
            what = f"lora.quantization_aware and lora.{asked[0]} do not go together"
            raise AdapterError(what, fix=f"leave lora.{asked[0]} at its default")


def _check_patterns(targets: Collection[str], settings: LoraConfig) -> None:
    """Raise an AdapterError for a pattern that would silently mean nothing."""
    for setting in ("rank_pattern", "alpha_pattern"):
        for pattern in getattr(settings, setting):
            if not any(_fits(pattern, name) for name in targets):
                ends = ", ".join(dict.fromkeys(name.rsplit(".", 1)[-1] for name in targets))
                raise AdapterError(f"lora.{setting}: `{pattern}` means no layer with LoRA", fix=f"there are {ends}")


def _check_rank(name: str, layer: nn.Linear, r: int, *, init: str) -> None:
    """PiSSA's product is stored with the one that is taken off it: as a LoRA of twice the rank."""
    limit = min(layer.in_features, layer.out_features) // (2 if init == "pissa" else 1)
    if r > limit:
        shape = f"{layer.out_features} x {layer.in_features}" + (
            ", of which PiSSA takes half" if init == "pissa" else ""
        )
        raise AdapterError(f"lora.r {r} is above the rank of {name} ({shape})", fix=f"set lora.r to at most {limit}")


def _of_pattern(patterns: Mapping[str, Value], name: str, otherwise: Value) -> Value:
    """The value of the first pattern that means the layer `name`."""
    return next((value for pattern, value in patterns.items() if _fits(pattern, name)), otherwise)


def _fits(pattern: str, name: str) -> bool:
    """Whether `pattern` means the layer `name`, as PEFT reads patterns."""
    return re.match(rf"(.*\.)?({pattern})$", name) is not None
