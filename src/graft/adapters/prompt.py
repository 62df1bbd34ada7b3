"""Prompt tuning: trained embeddings before every sample (Lester et al. 2021, arXiv 2104.08691).

n = virtual tokens.
"""

from collections.abc import Collection, Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.adapters.contract import WHOLE_MODEL, Adapter, Encode, Graft, ModuleGraft
from graft.adapters.foreign import refuse_foreign, require
from graft.adapters.own import own_copy
from graft.adapters.targets import plain
from graft.errors import AdapterError
from graft.runtime import derived_seed
from graft.sections import PromptConfig


class PromptGraft(ModuleGraft):
    """The embeddings (n, hidden) of the virtual tokens."""

    def __init__(self, prompt: Tensor) -> None:
        super().__init__()
        self.prompt_embeddings = nn.Parameter(prompt)

    def forward(self, states: Tensor, output: Tensor | None, base: nn.Module) -> Tensor:
        """Embeddings (1, T, hidden) of ids (1, T), those of virtual tokens among them."""
        assert output is not None
        trained = self.prompt_embeddings.to(output.dtype)[(-1 - states).clamp(min=0)]
        return torch.where((states < 0)[..., None], trained, output)

    def peft_tensors(self) -> dict[str, nn.Parameter]:
        return {"prompt_embeddings": self.prompt_embeddings}


class Prompt:
    """The method `prompt`."""

    peft_types = ("PROMPT_TUNING",)

    def create(
        self, model: PreTrainedModel, settings: PromptConfig, *, seed: int, encode: Encode | None = None
    ) -> Adapter:
        n = settings.num_virtual_tokens
        table = cast(nn.Embedding, plain(model.get_input_embeddings())).weight
        ids = torch.randint(len(table), (n,), generator=torch.Generator().manual_seed(derived_seed(seed, "prompt")))
        if settings.init_text:
            said = encode(settings.init_text) if encode else []
            if not said:
                raise AdapterError("prompt.init_text has no token", fix="give a text, or leave it empty")
            ids = torch.tensor((said * n)[:n])
        grafts: dict[str, Graft] = {WHOLE_MODEL: PromptGraft(own_copy(table[ids.to(table.device)]))}
        return Adapter("prompt", settings, grafts, n)

    def peft_config(self, adapter: Adapter, model: PreTrainedModel) -> dict[str, Any]:
        settings = adapter.settings
        assert isinstance(settings, PromptConfig)
        return {
            "peft_type": "PROMPT_TUNING",
            "task_type": "CAUSAL_LM",
            "inference_mode": True,
            "num_virtual_tokens": settings.num_virtual_tokens,
            "token_dim": model.config.hidden_size,
            "num_transformer_submodules": 1,
            "num_attention_heads": model.config.num_attention_heads,
            "num_layers": model.config.num_hidden_layers,
            "prompt_tuning_init": "RANDOM",
        }

    def settings_of(self, peft_config: Mapping[str, Any], tensors: Collection[str]) -> PromptConfig:
        read = {
            "num_virtual_tokens", "token_dim", "num_transformer_submodules", "num_attention_heads", "num_layers",
            "prompt_tuning_init", "prompt_tuning_init_text", "tokenizer_name_or_path", "tokenizer_kwargs",
        }  # fmt: skip
        refuse_foreign(peft_config, read, "prompt tuning")
        require(peft_config, ("num_virtual_tokens",))
        return PromptConfig(num_virtual_tokens=peft_config["num_virtual_tokens"])
