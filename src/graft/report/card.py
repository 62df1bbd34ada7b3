"""The model card that goes with an adapter."""

import json

from graft.config import Config


def model_card(config: Config, trained_parameters: int, first_loss: float | None, last_loss: float | None) -> str:
    """The text of the adapter's README.md. It depends on the run's settings and losses alone."""
    held_out = (
        f"Held-out loss: {first_loss:.4f} before, {last_loss:.4f} after training (nats per answer token).\n"
        if first_loss is not None and last_loss is not None
        else ""
    )
    data = config.data.path if isinstance(config.data.path, str) else ", ".join(config.data.path)
    template = "" if config.data.template == "auto" else f" {config.data.template}"
    quoted = json.dumps(config.model.path, ensure_ascii=False)  # JSON is YAML
    stored = "" if config.model.quantize == "none" else f" quantised to {config.model.quantize}"
    return (
        f"---\nbase_model: {quoted}\nlibrary_name: peft\ntags: [lora]\n---\n\n"
        f"# Adapter for {config.model.path}{stored}\n\n"
        f"Method {config.method}, {trained_parameters:,} trained parameters, trained with Graft on "
        f"{data} with the template{template} that `graft.json` holds.\n{held_out}\n"
        "```\ngraft chat --adapter .          # talk to it\n"
        "graft merge --adapter . --out merged   # fold it into its base, proven equal\n```\n\n"
        "The files are in PEFT's format: `PeftModel.from_pretrained(base, folder)` loads them as well.\n"
    )
