from pathlib import Path

import pytest
import torch
from transformers import Gemma3TextConfig, LlamaConfig, Phi3Config, Phi3ForCausalLM

from graft.adapters import Bank
from graft.errors import ModelError
from graft.forest import attach
from graft.infer import Engine, Request
from graft.model import positions_in, positions_of

LONG = {"rope_type": "longrope", "rope_theta": 100.0, "short_factor": [1.0] * 4, "long_factor": [3.0] * 4}


def phi3() -> Phi3Config:
    return Phi3Config(
        vocab_size=20,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=40,
        original_max_position_embeddings=12,
        rope_parameters=LONG,
        pad_token_id=None,
    )


def test_positions_are_those_of_the_configuration() -> None:
    assert positions_of(LlamaConfig(max_position_embeddings=64)) == 64
    assert positions_of(Gemma3TextConfig(max_position_embeddings=64)) == 64


def test_positions_are_read_without_the_model(tmp_path: Path) -> None:
    LlamaConfig(max_position_embeddings=64).save_pretrained(tmp_path)
    assert positions_in(str(tmp_path)) == 64
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ModelError, match="not a JSON object with a model_type"):
        positions_in(str(tmp_path))
    (tmp_path / "config.json").unlink()
    assert positions_in(str(tmp_path)) is None, "a folder with a tokenizer alone"


def test_longrope_ends_where_neighbours_would_change_the_answer() -> None:
    """A token beyond the first length turns the tokens of its neighbours, in `transformers` as it is."""
    config = phi3()
    assert positions_of(config) == 12
    model = Phi3ForCausalLM(config).eval()
    ids = torch.arange(14)[None]
    with torch.no_grad():
        short = model(ids[:, :12]).logits
        torch.testing.assert_close(model(ids[:, :11]).logits, short[:, :11])
        assert not torch.allclose(model(ids).logits[:, :12], short)
    attach(model)
    engine = Engine(Bank(model), [])
    assert len(engine.complete([Request([1] * 10, None, 30)])[0]) == 2
    with pytest.raises(ModelError, match="12 positions"):
        engine.complete([Request([1] * 12, None, 30)])
