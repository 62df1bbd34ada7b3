"""PEFT's `adapter_config.json` for LoRA, both ways."""

from collections.abc import Mapping
from typing import Any

from transformers import PreTrainedModel

from graft.adapters.contract import Adapter
from graft.adapters.foreign import refuse_foreign, require
from graft.adapters.lora_graft import LoraGraft
from graft.adapters.targets import linear_layers, shortest_names
from graft.sections import LoraConfig

_READ = {
    "r", "lora_alpha", "lora_dropout", "target_modules", "bias", "use_rslora", "use_dora", "init_lora_weights",
    "rank_pattern", "alpha_pattern", "modules_to_save", "megatron_core", "qalora_group_size", "quantization_aware",
}  # fmt: skip
# Ways to begin that leave the base's weights as they are; others (PiSSA, CorDA, ...) take something out of them.
_PLAIN_BEGINNINGS = (None, True, False, "gaussian", "orthogonal", "eva")


def lora_peft_config(adapter: Adapter, model: PreTrainedModel) -> dict[str, Any]:
    """What PEFT needs to know. An adapter that takes a product off again is a plain one of twice the rank."""
    settings = adapter.settings
    assert isinstance(settings, LoraConfig)
    targets = [name for name, graft in adapter.grafts.items() if isinstance(graft, LoraGraft)]
    doubled = settings.init == "pissa"
    more_alpha = (2**0.5 if settings.use_rslora else 2) if doubled else 1  # the scaling is to stay as it is
    return {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "r": settings.r * (2 if doubled else 1),
        "lora_alpha": settings.lora_alpha * more_alpha,
        "lora_dropout": settings.lora_dropout,
        "target_modules": shortest_names(targets, linear_layers(model)),
        "bias": settings.bias,
        "use_rslora": settings.use_rslora,
        "use_dora": settings.use_dora,
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "modules_to_save": settings.modules_to_save or None,
        "rank_pattern": {name: r * (2 if doubled else 1) for name, r in settings.rank_pattern.items()},
        "alpha_pattern": {name: alpha * more_alpha for name, alpha in settings.alpha_pattern.items()},
        **({"quantization_aware": True} if settings.quantization_aware else {}),  # PEFT says that it ignores it
    }


def lora_settings_of(peft_config: Mapping[str, Any]) -> LoraConfig:
    """The settings behind PEFT's; what LoRA here does not do is an error."""
    refuse_foreign(peft_config, _READ, "LoRA", also=[] if _begins_plain(peft_config) else ["init_lora_weights"])
    require(peft_config, ("r", "lora_alpha", "target_modules"))
    known = {k: peft_config[k] for k in LoraConfig.model_fields if peft_config.get(k) is not None}
    return LoraConfig.model_validate(known)


def _begins_plain(peft_config: Mapping[str, Any]) -> bool:
    return peft_config.get("init_lora_weights") in _PLAIN_BEGINNINGS
