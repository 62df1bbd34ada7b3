"""The model card that goes with an adapter."""

import json
from collections.abc import Sequence

from graft.config import Config

_MERGED = {"lora", "ia3", "full"}
"""Methods whose adapters can be merged into any base."""

_OF_PEFT = {"lora", "prefix", "prompt", "ia3"}
"""Methods that PEFT has; and `llama_adapter` with a gate for each layer."""


def model_card(
    config: Config, trained_parameters: int, first_loss: float | None, last_loss: float | None, *, step: str = ""
) -> str:
    """The text of the adapter's README.md. It depends on the run's settings and losses alone.

    Args:
        step: which step's adapter it is, of how many, and why.
    """
    held_out = (
        f"Held-out loss: {first_loss:.4f} before, {last_loss:.4f} after training (nats per answer token).\n"
        if first_loss is not None and last_loss is not None
        else ""
    )
    chosen = f"It is that of step {step}.\n" if step else ""
    data = config.data.path if isinstance(config.data.path, str) else ", ".join(config.data.path)
    template = "" if config.data.template == "auto" else f" {config.data.template}"
    quoted = json.dumps(config.model.path, ensure_ascii=False)  # JSON is YAML
    stored = "" if config.model.quantize == "none" else f" quantised to {config.model.quantize}"
    methods = config.method.split("+")
    merge = "graft merge --adapter . --out merged   # fold it into its base, proven equal\n"
    return (
        f"---\nbase_model: {quoted}\nlibrary_name: peft\ntags: [{', '.join(methods)}]\n---\n\n"
        f"# Adapter for {config.model.path}{stored}\n\n"
        f"Method {config.method}, {trained_parameters:,} trained parameters, trained with Graft on "
        f"{data} with the template{template} that `graft.json` holds.\n{chosen}{held_out}\n"
        f"```\ngraft chat --adapter .          # talk to it\n{merge if _MERGED.issuperset(methods) else ''}```\n\n"
        f"{_who_loads_it(config, methods)}\n"
    )


def _who_loads_it(config: Config, methods: Sequence[str]) -> str:
    known = _OF_PEFT | ({"llama_adapter"} if config.adaption.gate == "layer" else set())
    if not known.issuperset(methods) or config.lora.quantization_aware:
        return "Graft loads it; PEFT does not compute what was trained."
    if len(methods) == 1:
        return "The files are in PEFT's format: `PeftModel.from_pretrained(base, folder)` loads them as well."
    return "Each method lies in a folder of its own in PEFT's format, and only Graft runs them together."
