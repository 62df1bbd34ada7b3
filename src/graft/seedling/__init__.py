"""The seedling: the small base model that ships with the package, and the demo's instruction data.

Nothing here imports torch, so that asking where a file lies costs nothing.
"""

from pathlib import Path

__all__ = ["demo_held_out_path", "demo_train_path", "seedling_path"]

_HERE = Path(__file__).resolve().parent


def seedling_path() -> Path:
    """Folder of the shipped model: `config.json`, `model.safetensors`, the tokenizer, `generation_config.json`."""
    return _HERE / "model"


def demo_train_path() -> Path:
    """Alpaca rows, one JSON object a line, that teach the seedling to follow instructions."""
    return _HERE / "demo_train.jsonl"


def demo_held_out_path() -> Path:
    """Alpaca rows that ask for what no training row asks; of the same kinds and languages."""
    return _HERE / "demo_held_out.jsonl"
