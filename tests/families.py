"""Random models of every supported family, small enough to be exact in float64, and samples to run through them."""

import random
from collections.abc import Callable
from typing import Any

import torch
from transformers import (
    Cohere2Config,
    Cohere2ForCausalLM,
    CohereConfig,
    CohereForCausalLM,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    Glm4Config,
    Glm4ForCausalLM,
    GlmConfig,
    GlmForCausalLM,
    GraniteConfig,
    GraniteForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MinistralConfig,
    MinistralForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Olmo2Config,
    Olmo2ForCausalLM,
    Olmo3Config,
    Olmo3ForCausalLM,
    Phi3Config,
    Phi3ForCausalLM,
    PretrainedConfig,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    SmolLM3Config,
    SmolLM3ForCausalLM,
    Starcoder2Config,
    Starcoder2ForCausalLM,
)

from graft.forest import attach
from graft.records import TokenSequence

VOCABULARY = 60
WINDOW = 5  # shorter than most samples, and than most segments with what stands above them
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}
_WINDOWS: dict[str, Any] = {
    "sliding_window": WINDOW,
    "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
}
_PARTIAL = {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5}


def _family(
    model: type[PreTrainedModel], config: type[PretrainedConfig], **fields: Any
) -> Callable[[], PreTrainedModel]:
    return lambda: model(config(**_SHAPE | fields))


# Every family with what is its own set to values that would show a mistake.
FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama-mha": _family(LlamaForCausalLM, LlamaConfig, num_key_value_heads=4),
    "llama-gqa": _family(LlamaForCausalLM, LlamaConfig),
    "llama-mqa": _family(LlamaForCausalLM, LlamaConfig, num_key_value_heads=1),
    "llama-tied-biased": _family(
        LlamaForCausalLM, LlamaConfig, tie_word_embeddings=True, attention_bias=True, mlp_bias=True
    ),
    "mistral": _family(MistralForCausalLM, MistralConfig, sliding_window=None),
    "mistral-window": _family(MistralForCausalLM, MistralConfig, sliding_window=WINDOW),
    "ministral": _family(MinistralForCausalLM, MinistralConfig, head_dim=12, **_WINDOWS),
    "qwen2": _family(Qwen2ForCausalLM, Qwen2Config),
    "qwen2-window": _family(
        Qwen2ForCausalLM, Qwen2Config, use_sliding_window=True, sliding_window=WINDOW, max_window_layers=1
    ),
    "qwen3": _family(Qwen3ForCausalLM, Qwen3Config, head_dim=12),
    "qwen3-window": _family(Qwen3ForCausalLM, Qwen3Config, head_dim=12, use_sliding_window=True, **_WINDOWS),
    "gemma": _family(GemmaForCausalLM, GemmaConfig, head_dim=12, num_key_value_heads=1),
    "gemma2": _family(
        Gemma2ForCausalLM,
        Gemma2Config,
        head_dim=12,
        query_pre_attn_scalar=5,
        attn_logit_softcapping=2.0,
        final_logit_softcapping=3.0,
        **_WINDOWS,
    ),
    "gemma3": _family(
        Gemma3ForCausalLM,
        Gemma3TextConfig,
        head_dim=12,
        query_pre_attn_scalar=5,
        final_logit_softcapping=3.0,
        rope_parameters={
            "sliding_attention": {"rope_type": "default", "rope_theta": 100.0},
            "full_attention": {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
        },
        **_WINDOWS,
    ),
    "phi3": _family(Phi3ForCausalLM, Phi3Config, rope_parameters=_PARTIAL),
    "phi3-window": _family(Phi3ForCausalLM, Phi3Config, sliding_window=WINDOW),
    "olmo2": _family(Olmo2ForCausalLM, Olmo2Config),
    "olmo3": _family(Olmo3ForCausalLM, Olmo3Config, **_WINDOWS),
    "granite": _family(
        GraniteForCausalLM,
        GraniteConfig,
        embedding_multiplier=1.7,
        residual_multiplier=0.6,
        attention_multiplier=0.23,
        logits_scaling=2.3,
    ),
    "glm": _family(GlmForCausalLM, GlmConfig, head_dim=12, attention_bias=True, rope_parameters=_PARTIAL),
    "glm4": _family(Glm4ForCausalLM, Glm4Config, head_dim=12, attention_bias=True, rope_parameters=_PARTIAL),
    "starcoder2": _family(Starcoder2ForCausalLM, Starcoder2Config, use_bias=True),
    "starcoder2-window": _family(Starcoder2ForCausalLM, Starcoder2Config, use_bias=True, sliding_window=WINDOW),
    "cohere": _family(CohereForCausalLM, CohereConfig, logit_scale=0.4, use_qk_norm=True),
    "cohere2": _family(Cohere2ForCausalLM, Cohere2Config, logit_scale=0.4, **_WINDOWS),
    "smollm3": _family(SmolLM3ForCausalLM, SmolLM3Config, no_rope_layers=[1, 0, 1]),
    "smollm3-window": _family(
        SmolLM3ForCausalLM, SmolLM3Config, no_rope_layers=[1, 0, 1], use_sliding_window=True, **_WINDOWS
    ),
}


def build(family: str, *, attached: bool = True, dtype: torch.dtype = torch.float64) -> PreTrainedModel:
    """The model of `family`; every call gives the same weights."""
    torch.manual_seed(7)
    model = FAMILIES[family]().to(dtype).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter)  # born as zeros, they would hide a mistake
    model.requires_grad_(False)
    if attached:
        attach(model)
    elif getattr(model.config, "attn_logit_softcapping", None) is not None:
        model.set_attn_implementation("eager")  # the only one of transformers' that caps scores on a CPU
    return model


def samples(count: int, *, seed: int = 0, slot: int | None = 0) -> list[TokenSequence]:
    """Samples that branch off one another at random places, trained at random tokens, branch points included."""
    rng = random.Random(seed)
    grown: list[TokenSequence] = []
    for _ in range(count):
        stem: tuple[int, ...] = ()
        if grown and rng.random() < 0.8:
            parent = rng.choice(grown).ids
            stem = parent[: rng.randint(1, len(parent))]
        ids = stem + tuple(rng.choices(range(VOCABULARY), k=rng.randint(2, 12)))
        trained = (False, *(rng.random() < 0.7 for _ in ids[1:]))
        grown.append(TokenSequence(ids, trained, adapter_slot=slot, weight=rng.choice([0.25, 1.0, 3.0])))
    return grown
