"""LLaMA-Adapter: a learned prompt that the upper layers attend to through a gate that begins at zero.

v1 (Zhang et al. 2023, arXiv 2303.16199) is the prompt alone; v2 (Gao et al. 2023, arXiv 2304.15010) adds a scale and a
bias to every linear layer and trains the norms.

H, K = query and key/value heads, D = head size, n = prompt positions.
"""

from collections.abc import Collection, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.adapters.contract import Adapter, AttentionGraft, Encode, Graft, ModuleGraft
from graft.adapters.foreign import refuse_foreign, require
from graft.adapters.low_rank import frozen_linear
from graft.adapters.own import OwnGraft
from graft.adapters.targets import attention_layers, linear_layers, norms, plain
from graft.errors import AdapterError
from graft.runtime import derived_seed
from graft.sections import AdaptionConfig


class AdaptionGraft(AttentionGraft):
    """gate * softmax(q K^T) V over the keys and values that the base's projections make of a learned prompt.

    They get no rotary embedding: the prompt has no place. The gate is one for each head, or one for the layer.
    """

    def __init__(self, prompt: Tensor, gate: Tensor) -> None:
        super().__init__()
        self.adaption_prompt = nn.Parameter(prompt)
        self.adaption_gate = nn.Parameter(gate)

    def added(self, attention: nn.Module, query_HTD: Tensor, scaling: float) -> Tensor:
        dtype = query_HTD.dtype
        heads, size = query_HTD.shape[1], query_HTD.shape[3]
        key_KnD, value_KnD = _keys_values(attention, self.adaption_prompt[0].to(dtype), heads, size)
        grouped_KRD = query_HTD[0].reshape(len(key_KnD), -1, size)  # the G query heads of a key head below one another
        scored = (grouped_KRD * scaling) @ key_KnD.transpose(1, 2)
        chances = scored.softmax(dim=-1, dtype=torch.promote_types(dtype, torch.float32)).to(dtype)
        seen_HTD = (chances @ value_KnD).view(query_HTD.shape)
        return seen_HTD * self.adaption_gate.view(1, -1, 1, 1).to(dtype)

    def peft_tensors(self) -> dict[str, nn.Parameter]:
        return {"adaption_prompt": self.adaption_prompt, "adaption_gate": self.adaption_gate}


class ScaleBiasGraft(ModuleGraft):
    """scale * (W x + bias) with a scale and a bias (out,) on top of the base's own (eq. 2 of LLaMA-Adapter v2)."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.adapter_scale = nn.Parameter(torch.ones(features))
        self.adapter_bias = nn.Parameter(torch.zeros(features))

    def forward(self, states: Tensor, output: Tensor | None, base: nn.Module) -> Tensor:
        assert output is not None
        # a scale near 1 in half precision would be 1: it multiplies in float32
        return (output * self.adapter_scale + self.adapter_bias * self.adapter_scale).to(output.dtype)

    def peft_tensors(self) -> dict[str, nn.Parameter]:
        return {"adapter_scale": self.adapter_scale, "adapter_bias": self.adapter_bias}


class LlamaAdapter:
    """The methods `llama_adapter` and `llama_adapter_v2`."""

    def __init__(self, *, version: int) -> None:
        self._name = "llama_adapter" if version == 1 else "llama_adapter_v2"
        self._second = version == 2
        # PEFT knows the first version with one gate a layer; the other types are ours
        self.peft_types = ("LLAMA_ADAPTER_V2",) if self._second else ("ADAPTION_PROMPT", "LLAMA_ADAPTER")

    def create(
        self, model: PreTrainedModel, settings: AdaptionConfig, *, seed: int, encode: Encode | None = None
    ) -> Adapter:
        layers = attention_layers(model)
        count = settings.adapter_layers or max(1, len(layers) - 2)
        if count > len(layers):
            raise AdapterError(f"adaption.adapter_layers {count}: the model has {len(layers)} layers")
        gates = model.config.num_attention_heads if settings.gate == "head" else 1
        grafts: dict[str, Graft] = {}
        for name in list(layers)[-count:]:
            generator = torch.Generator().manual_seed(derived_seed(seed, "adaption", name))
            prompt = torch.randn(1, settings.adapter_len, model.config.hidden_size, generator=generator)
            grafts[name] = AdaptionGraft(prompt, torch.zeros(gates))
        if self._second:
            head = cast(nn.Linear, plain(model.get_output_embeddings()))
            linear = {**linear_layers(model), _head_name(model): head}
            grafts.update({name: ScaleBiasGraft(layer.out_features) for name, layer in linear.items()})
            grafts.update({name: OwnGraft(norm) for name, norm in norms(model).items()})
        return Adapter(self._name, settings, grafts)

    def peft_config(self, adapter: Adapter, model: PreTrainedModel) -> dict[str, Any]:
        settings = adapter.settings
        assert isinstance(settings, AdaptionConfig)
        layers = sum(isinstance(graft, AdaptionGraft) for graft in adapter.grafts.values())
        return {
            "peft_type": self.peft_types[0 if self._second or settings.gate == "layer" else 1],
            "task_type": "CAUSAL_LM",
            "inference_mode": True,
            "target_modules": "self_attn",
            "adapter_len": settings.adapter_len,
            "adapter_layers": layers,
            **({"gate": settings.gate} if self._second else {}),
        }

    def settings_of(self, peft_config: Mapping[str, Any], tensors: Collection[str]) -> AdaptionConfig:
        refuse_foreign(peft_config, {"target_modules", "adapter_len", "adapter_layers", "gate"}, "LLaMA-Adapter")
        require(peft_config, ("adapter_len", "adapter_layers"))
        gate = "layer" if peft_config["peft_type"] == "ADAPTION_PROMPT" else "head"
        known = {k: peft_config[k] for k in ("adapter_len", "adapter_layers")}
        return AdaptionConfig.model_validate({**known, "gate": peft_config.get("gate", gate)})


def _head_name(model: PreTrainedModel) -> str:
    head = model.get_output_embeddings()
    return next(str(name) for name, module in model.named_modules() if module is head)


def _keys_values(attention: nn.Module, prompt: Tensor, heads: int, size: int) -> tuple[Tensor, Tensor]:
    """Keys and values (K, n, D) of a prompt (n, hidden), normalised as the family normalises its own."""
    fused = getattr(attention, "qkv_proj", None)
    if fused is not None:  # the queries' rows first, then the keys' and the values'
        key, value = frozen_linear([prompt], [cast(nn.Linear, plain(fused))])[0][:, heads * size :].chunk(2, dim=-1)
    else:
        both = [cast(nn.Linear, plain(cast(nn.Module, part))) for part in (attention.k_proj, attention.v_proj)]
        key, value = frozen_linear([prompt], both)
    norm = getattr(attention, "k_norm", None)
    norm = None if norm is None else cast(Any, plain(norm))  # of other slots' norms none is asked here
    if norm is not None and norm.weight.shape == key.shape[-1:]:
        key = norm(key)
    key_nKD, value_nKD = key.unflatten(-1, (-1, size)), value.unflatten(-1, (-1, size))
    if norm is not None and norm.weight.shape != key.shape[-1:]:
        key_nKD = norm(key_nKD)
    return key_nKD.transpose(0, 1), value_nKD.transpose(0, 1)
