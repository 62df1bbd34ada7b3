"""How many positions a model has in which it answers the same whatever else is computed beside it."""

from typing import Any

from transformers import PretrainedConfig

from graft.model.load import read_config
from graft.model.locate import locate


def positions_of(config: PretrainedConfig) -> int:
    """Tokens that a sample may have.

    LongRoPE (Ding et al. 2024, arXiv 2402.13753) turns every token of a pass by other angles as soon as one stands
    beyond the length that the model was first trained on: up to there, samples do not depend on their neighbours.
    """
    ropes: dict[str, Any] = getattr(config, "rope_parameters", None) or {}
    by_layer_type = [rope for rope in ropes.values() if isinstance(rope, dict)]
    first = [r["original_max_position_embeddings"] for r in (ropes, *by_layer_type) if r.get("rope_type") == "longrope"]
    positions: int = min(config.max_position_embeddings, *first) if first else config.max_position_embeddings
    return positions


def positions_in(path: str) -> int | None:
    """Tokens that a sample may have for the model in the folder `path`; None where there is but a tokenizer.

    Raises:
        ModelError: the model cannot be used.
    """
    folder = locate(path, weights=False)
    return positions_of(read_config(folder)) if (folder / "config.json").is_file() else None
