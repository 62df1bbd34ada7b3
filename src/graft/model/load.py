"""Load a base model and its tokenizer, whole and frozen, or say why not; write them back."""

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, PretrainedConfig, PreTrainedModel

from graft.config import CacheName, QuantizeName
from graft.errors import ModelError, nearest
from graft.model.locate import locate
from graft.model.quantise import check_quantize, quantise
from graft.model.quiet import quiet
from graft.model.tokenizer import Tokenizer
from graft.model.weights import Survey, digest, survey, weight_files

# Families whose contract test passes; the forward of others may not follow a forest.
SUPPORTED = (
    "llama",
    "mistral",
    "ministral",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "phi3",
    "glm",
    "glm4",
    "granite",
    "olmo2",
    "olmo3",
    "smollm3",
    "starcoder2",
    "cohere",
    "cohere2",
)

DTYPES = {
    "float32": torch.float32,
    "fp32": torch.float32,
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
}
SMALL = 1_000_000_000  # parameters; up to here a CPU computes in float32: no slower, and merging is exact

_OS_ERROR = re.compile(r"\(os error (\d+)\)")  # how Rust ends the message of a call that failed

# What in a configuration decides on a model's answers. Other fields vary with the version that wrote them.
ARCHITECTURE = (
    "model_type",
    "vocab_size",
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "hidden_activation",
    "rms_norm_eps",
    "layer_norm_eps",
    "norm_epsilon",
    "use_qk_norm",
    "rope_parameters",
    "partial_rotary_factor",
    "no_rope_layers",
    "max_position_embeddings",
    "sliding_window",
    "layer_types",
    "query_pre_attn_scalar",
    "attn_logit_softcapping",
    "final_logit_softcapping",
    "embedding_multiplier",
    "residual_multiplier",
    "attention_multiplier",
    "logits_scaling",
    "logit_scale",
    "tie_word_embeddings",
    "attention_bias",
    "mlp_bias",
    "use_bias",
)


@dataclass(frozen=True)
class Base:
    """A base model, frozen and in eval mode, with its tokenizer.

    Args:
        path: the model as the user named it.
        files: the files that its weights were read from.
    """

    model: PreTrainedModel
    tokenizer: Tokenizer
    path: str
    files: tuple[Path, ...] = field(repr=False)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of the weight files and the architecture. Reads all weights once, when it is first asked for."""
        config = self.model.config.to_dict()
        architecture = json.dumps({name: config.get(name) for name in ARCHITECTURE}, sort_keys=True)
        return hashlib.sha256(f"{architecture}\n{digest(self.files)}".encode()).hexdigest()


def load_base(
    path: str,
    *,
    dtype: str = "auto",
    quantize: QuantizeName = "none",
    double_quant: bool = True,
    cache_dequantized: CacheName = "auto",
    device: torch.device | None = None,
) -> Base:
    """Load a model with its tokenizer.

    Args:
        path: a folder with config.json and safetensors files, or a hub id.
        dtype: `float32`, `bfloat16`, `float16` (or `fp32`, `bf16`, `fp16`); `auto` is float32 on a CPU for up to 1e9
            parameters, and the dtype of the stored weights otherwise.
        quantize, double_quant, cache_dequantized: of the linear layers, as in `ModelConfig`.
        device: where the model goes; None is the CPU.

    Raises:
        ModelError: the model is not there, not whole, not supported, or does not fit its tokenizer.
        ConfigError: what quantises is not installed.
    """
    device = device or torch.device("cpu")
    if dtype not in ("auto", *DTYPES):
        hint = nearest(dtype, DTYPES)
        raise ModelError(
            f"no dtype {dtype!r}", fix=f"did you mean {hint}?" if hint else f"one of auto, {', '.join(DTYPES)}"
        )
    check_quantize(quantize)
    folder = locate(path, weights=True)
    config = read_config(folder)
    files = weight_files(folder)
    tokenizer = Tokenizer.from_folder(folder)
    model = _read_model(folder, config, _compute_dtype(dtype, survey(files), device))
    embeddings = model.get_input_embeddings()
    assert isinstance(embeddings, torch.nn.Embedding)
    rows = embeddings.num_embeddings
    if tokenizer.vocab_size > rows:
        raise ModelError(
            f"{folder}: the tokenizer has ids up to {tokenizer.vocab_size - 1}, the model has {rows} embeddings",
            fix="tokenizer and weights are not of the same model, or tokens were added to the tokenizer alone: "
            "take the tokenizer files that came with the weights",
        )
    model.requires_grad_(False).train(False)
    if quantize != "none":
        quantise(model, quantize, double=double_quant, cache=cache_dequantized, device=device)
    torch.nn.Module.to(model, device)
    return Base(model, tokenizer, path, tuple(files))


def load_tokenizer(path: str) -> Tokenizer:
    """Load the tokenizer of a model alone; its weights are neither read nor downloaded.

    Raises:
        ModelError: the tokenizer is not there, not whole, or gives wrong ids.
    """
    return Tokenizer.from_folder(locate(path, weights=False))


def save_base(model: PreTrainedModel, tokenizer: Tokenizer, folder: Path) -> None:
    """Write a model folder that `load_base` and transformers read: configuration, safetensors, tokenizer.

    Raises:
        OSError: the system does not take it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with quiet():
            model.save_pretrained(folder)
        tokenizer.save(folder)
    except Exception as error:  # what the Rust of safetensors and tokenizers makes of an OSError has no type of its own
        if number := _OS_ERROR.search(str(error)):
            raise OSError(int(number[1]), os.strerror(int(number[1])), str(folder)) from error
        raise


def read_config(folder: Path) -> PretrainedConfig:
    """The config.json of a model that can be used, or a ModelError."""
    file = folder / "config.json"
    if not file.is_file():
        raise _no_config(folder)
    try:
        model_type = json.loads(file.read_bytes())["model_type"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(
            f"{file} is not a JSON object with a model_type", fix="fetch the file again from the model's publisher"
        ) from error
    if model_type not in SUPPORTED:
        raise ModelError(
            f"{file}: the model type {model_type!r} is not supported", fix=f"use a model of {', '.join(SUPPORTED)}"
        )
    try:
        with quiet():
            config: PretrainedConfig = AutoConfig.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False
            )
    except (StrictDataclassError, ValueError, KeyError, TypeError, OSError) as error:
        raise ModelError(
            f"{file}: {_last_line(error)}", fix="fetch the file again from the model's publisher"
        ) from error
    if getattr(config, "quantization_config", None) is not None:
        raise ModelError(f"{file}: the weights are quantised", fix="give the publisher's unquantised model")
    if getattr(config, "use_bidirectional_attention", None) or not getattr(config, "is_causal", True):
        raise ModelError(f"{file}: every token sees those behind it", fix="use a model with causal attention")
    return config


def _compute_dtype(name: str, stored: Survey, device: torch.device) -> torch.dtype:
    if name != "auto":
        return DTYPES[name]
    return torch.float32 if device.type == "cpu" and stored.parameters <= SMALL else stored.dtype


def _read_model(folder: Path, config: PretrainedConfig, dtype: torch.dtype) -> PreTrainedModel:
    try:
        with quiet():
            # Mismatches are let through here to be reported with all the others below.
            loaded: Any = AutoModelForCausalLM.from_pretrained(
                folder,
                config=config,
                dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                trust_remote_code=False,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as error:
        raise ModelError(
            f"{folder}: no model can be built from its config.json and weights: {type(error).__name__}: "
            f"{_last_line(error)}",
            fix="fetch config.json and the weights again, both of the same version of the model",
        ) from error
    model, report = loaded
    assert isinstance(model, PreTrainedModel)
    _refuse_other_tensors(folder, report)
    if config.tie_word_embeddings and "lm_head.weight" in dict(model.named_parameters()):
        raise ModelError(
            f"{folder}: config.json ties the output head to the embeddings, but the weights have a head of its own; "
            "programs differ in which of the two they believe",
            fix='set "tie_word_embeddings": false in config.json if the stored head is the right one',
        )
    return model


def _refuse_other_tensors(folder: Path, report: dict[str, Any]) -> None:
    """transformers fills what is missing with random numbers and drops what is left over; neither is the model."""
    wrong = [f"{name} is missing" for name in sorted(report["missing_keys"])]
    wrong += [f"{name} has no place in the model" for name in sorted(report["unexpected_keys"])]
    wrong += [
        f"{name} has the shape {tuple(stored)}, not {tuple(needed)}"
        for name, stored, needed in sorted(report["mismatched_keys"])
    ]
    wrong += report["error_msgs"]
    if wrong:
        more = f"; and {len(wrong) - 5} more" if len(wrong) > 5 else ""
        raise ModelError(
            f"{folder}: the weights do not fit config.json: {'; '.join(wrong[:5])}{more}",
            fix="fetch config.json and the weights again, both of the same version of the model",
        )


def _no_config(folder: Path) -> ModelError:
    if (folder / "adapter_config.json").is_file():
        return ModelError(f"{folder} is an adapter, not a base model", fix="give the model that it was trained on")
    if (folder / "params.json").is_file():
        return ModelError(
            f"{folder} is a checkpoint in Meta's format", fix="convert it to the Hugging Face layout first"
        )
    return ModelError(f"{folder} has no config.json", fix="give the folder of a model in the Hugging Face layout")


def _last_line(error: BaseException) -> str:
    """What a library's error ends with: the fact, after the account of where it was noticed."""
    return (str(error).strip() or type(error).__name__).splitlines()[-1].strip()
