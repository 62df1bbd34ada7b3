"""Random models of every supported family, small enough to be exact in float64, and samples to run through them."""

import random
from collections.abc import Callable

import torch
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedModel,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from graft.forest import attach
from graft.records import TokenSequence

VOCABULARY = 60
_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "pad_token_id": None,
    "bos_token_id": None,
    "eos_token_id": None,
}

FAMILIES: dict[str, Callable[[], PreTrainedModel]] = {
    "llama-mha": lambda: LlamaForCausalLM(LlamaConfig(**_SHAPE, num_attention_heads=4, num_key_value_heads=4)),
    "llama-gqa": lambda: LlamaForCausalLM(LlamaConfig(**_SHAPE, num_attention_heads=4, num_key_value_heads=2)),
    "llama-mqa": lambda: LlamaForCausalLM(LlamaConfig(**_SHAPE, num_attention_heads=4, num_key_value_heads=1)),
    "llama-tied-biased": lambda: LlamaForCausalLM(
        LlamaConfig(
            **_SHAPE,
            num_attention_heads=4,
            num_key_value_heads=2,
            tie_word_embeddings=True,
            attention_bias=True,
            mlp_bias=True,
        )
    ),
    "mistral": lambda: MistralForCausalLM(
        MistralConfig(**_SHAPE, num_attention_heads=4, num_key_value_heads=2, sliding_window=None)
    ),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**_SHAPE, num_attention_heads=4, num_key_value_heads=2)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**_SHAPE, num_attention_heads=4, num_key_value_heads=2, head_dim=8)),
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
