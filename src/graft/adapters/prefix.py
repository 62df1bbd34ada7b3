"""Prefix tuning: trained keys and values that every sample sees before its own, in each layer.

Li and Liang 2021 (arXiv 2101.00190); P-Tuning v2 (Liu et al. 2021, arXiv 2110.07602). They stand in the places of n
virtual tokens, and get no rotary embedding.

n = virtual tokens, L = layers, K = key/value heads, D = head size.
"""

from collections.abc import Collection, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.adapters.contract import WHOLE_MODEL, Adapter, AttentionGraft, Encode
from graft.adapters.foreign import refuse_foreign, require
from graft.adapters.targets import head_size
from graft.runtime import derived_seed
from graft.sections import PrefixConfig

_SPREAD = 0.02
"""Standard deviation of the first keys and values: near nothing, as P-Tuning v2 begins."""


class PrefixGraft(AttentionGraft):
    """The keys and values themselves, (n, L * 2 * K * D): for each layer all keys, then all values."""

    def __init__(self, prompt: Tensor, heads: int, size: int) -> None:
        super().__init__()
        self.prompt_embeddings = nn.Parameter(prompt)
        self.heads, self.size = heads, size

    def prefix(self, layer: int) -> tuple[Tensor, Tensor]:
        wide = 2 * self.heads * self.size
        both = self.made(slice(layer * wide, (layer + 1) * wide)).unflatten(-1, (2, self.heads, self.size))
        return both[:, 0].transpose(0, 1), both[:, 1].transpose(0, 1)

    def made(self, columns: slice) -> Tensor:
        """These columns of the keys and values."""
        return self.prompt_embeddings[:, columns]

    def peft_tensors(self) -> dict[str, nn.Parameter]:
        return {"prompt_embeddings": self.prompt_embeddings}


class ProjectedPrefixGraft(PrefixGraft):
    """Keys and values that a two-layer MLP makes of trained embeddings (n, hidden) (Li and Liang 2021, section 4.3).

    The file holds them as PEFT wants them, made, and what makes them beside.
    """

    def __init__(self, prompt: Tensor, heads: int, size: int, *, hidden: int, inner: int) -> None:
        super().__init__(prompt, heads, size)
        columns = prompt.shape[1]
        del self.prompt_embeddings
        self.embedding = nn.Parameter(torch.randn(len(prompt), hidden))
        self.inner, self.outer = nn.Linear(hidden, inner), nn.Linear(inner, columns)
        nn.init.normal_(self.outer.weight, std=_SPREAD)

    def made(self, columns: slice) -> Tensor:
        return F.linear(self.inner(self.embedding).tanh(), self.outer.weight[columns], self.outer.bias[columns])

    def peft_tensors(self) -> dict[str, nn.Parameter]:
        return {f"transform.{name}": parameter for name, parameter in self.named_parameters()}

    def file_tensors(self) -> dict[str, Tensor]:
        return {**self.peft_tensors(), "prompt_embeddings": self.made(slice(None))}


class Prefix:
    """The method `prefix`."""

    peft_types = ("PREFIX_TUNING",)

    def create(
        self, model: PreTrainedModel, settings: PrefixConfig, *, seed: int, encode: Encode | None = None
    ) -> Adapter:
        config = model.config
        heads, size = config.num_key_value_heads, head_size(model)
        n, columns = settings.num_virtual_tokens, config.num_hidden_layers * 2 * heads * size
        generator = torch.Generator().manual_seed(derived_seed(seed, "prefix"))
        prompt = torch.randn(n, columns, generator=generator) * _SPREAD
        if not settings.prefix_projection:
            return Adapter("prefix", settings, {WHOLE_MODEL: PrefixGraft(prompt, heads, size)}, n)
        inner = settings.encoder_hidden_size or config.hidden_size
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derived_seed(seed, "prefix"))
            graft = ProjectedPrefixGraft(prompt, heads, size, hidden=config.hidden_size, inner=inner)
        return Adapter("prefix", settings, {WHOLE_MODEL: graft}, n)

    def peft_config(self, adapter: Adapter, model: PreTrainedModel) -> dict[str, Any]:
        settings, config = adapter.settings, model.config
        assert isinstance(settings, PrefixConfig)
        heads = config.num_key_value_heads
        return {
            "peft_type": "PREFIX_TUNING",
            "task_type": "CAUSAL_LM",
            "inference_mode": True,
            "num_virtual_tokens": settings.num_virtual_tokens,
            "token_dim": heads * head_size(model),
            "num_transformer_submodules": 1,
            "num_attention_heads": heads,
            "num_layers": config.num_hidden_layers,
            "encoder_hidden_size": settings.encoder_hidden_size or config.hidden_size,
            "prefix_projection": settings.prefix_projection,
        }

    def settings_of(self, peft_config: Mapping[str, Any], tensors: Collection[str]) -> PrefixConfig:
        read = {
            "num_virtual_tokens", "token_dim", "num_transformer_submodules", "num_attention_heads", "num_layers",
            "encoder_hidden_size", "prefix_projection", "init_weights",
        }  # fmt: skip
        refuse_foreign(peft_config, read, "prefix tuning")
        require(peft_config, ("num_virtual_tokens",))
        known = {k: peft_config[k] for k in PrefixConfig.model_fields if peft_config.get(k) is not None}
        if not any(name.startswith("transform.") for name in tensors):  # PEFT keeps only what the projection made
            known["prefix_projection"] = False
        if not known.get("prefix_projection"):
            known.pop("encoder_hidden_size", None)  # PEFT writes one all the same
        return PrefixConfig.model_validate(known)
