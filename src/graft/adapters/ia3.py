"""IA3: vectors that scale what a layer gives, or what it reads (Liu et al. 2022, arXiv 2205.05638)."""

from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.adapters.contract import Adapter, Encode, Graft, ModuleGraft
from graft.adapters.foreign import refuse_foreign
from graft.adapters.low_rank import frozen_linear
from graft.adapters.targets import linear_layers, shortest_names, target_layers
from graft.errors import AdapterError
from graft.sections import Ia3Config

_ATTENTION = ("k_proj", "v_proj", "qkv_proj")
_FEEDFORWARD = ("down_proj", "c_proj")


class Ia3Graft(ModuleGraft):
    """l (out,) times what the layer gives; or W (l * x) with l (in,) where the layer ends an MLP."""

    def __init__(self, layer: nn.Linear, *, feedforward: bool) -> None:
        super().__init__()
        shape = (1, layer.in_features) if feedforward else (layer.out_features, 1)
        self.ia3_l = nn.Parameter(torch.ones(shape))
        self.feedforward = feedforward

    def forward(self, states: Tensor, output: Tensor | None, base: nn.Module) -> Tensor:
        assert output is not None
        assert isinstance(base, nn.Linear)
        scale = self.ia3_l.flatten()  # near 1, which half precision would round it to: it multiplies in float32
        if self.feedforward:
            return frozen_linear([(states * scale).to(states.dtype)], [base])[0]
        return (output * scale).to(output.dtype)

    def merged(self, base: nn.Module) -> dict[str, Tensor]:
        assert isinstance(base, nn.Linear)
        merged = {"weight": base.weight.float() * self.ia3_l.detach().float()}
        if base.bias is not None and not self.feedforward:
            merged["bias"] = base.bias.float() * self.ia3_l.detach().float().flatten()
        return merged

    def peft_tensors(self) -> dict[str, nn.Parameter]:
        return {"ia3_l": self.ia3_l}


class Ia3:
    """The method `ia3`."""

    peft_types = ("IA3",)

    def create(
        self, model: PreTrainedModel, settings: Ia3Config, *, seed: int, encode: Encode | None = None
    ) -> Adapter:
        existing = {name.rsplit(".", 1)[-1] for name in linear_layers(model)}
        ends = settings.target_modules
        if ends == "auto":
            ends = [end for end in (*_ATTENTION, *_FEEDFORWARD) if end in existing]
        targets = target_layers(model, ends, setting="ia3.target_modules")
        feedforward = settings.feedforward_modules
        if feedforward == "auto":
            feedforward = [end for end in _FEEDFORWARD if end in existing]
        scaled_in = target_layers(model, feedforward, setting="ia3.feedforward_modules") if feedforward else {}
        if lost := sorted(scaled_in.keys() - targets.keys() if settings.feedforward_modules != "auto" else ()):
            raise AdapterError(f"ia3.feedforward_modules: {lost[0]} is no target", fix="add it to ia3.target_modules")
        grafts: dict[str, Graft] = {
            name: Ia3Graft(layer, feedforward=name in scaled_in) for name, layer in targets.items()
        }
        return Adapter("ia3", settings, grafts)

    def peft_config(self, adapter: Adapter, model: PreTrainedModel) -> dict[str, Any]:
        layers = linear_layers(model)
        fed = [name for name, graft in adapter.grafts.items() if isinstance(graft, Ia3Graft) and graft.feedforward]
        return {
            "peft_type": "IA3",
            "task_type": "CAUSAL_LM",
            "inference_mode": True,
            "target_modules": shortest_names(adapter.grafts, layers),
            "feedforward_modules": shortest_names(fed, layers),
            "fan_in_fan_out": False,
            "init_ia3_weights": True,
        }

    def settings_of(self, peft_config: Mapping[str, Any], tensors: Collection[str]) -> Ia3Config:
        refuse_foreign(peft_config, {"target_modules", "feedforward_modules", "init_ia3_weights"}, "IA3")
        return Ia3Config.model_validate({k: peft_config[k] for k in Ia3Config.model_fields if k in peft_config})
