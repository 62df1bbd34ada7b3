import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from graft.errors import ModelError
from graft.model.load import SUPPORTED, Base, load_base, load_tokenizer, save_base
from tests.families import FAMILIES, build

IDS = torch.tensor([[1, 300, 301, 302]])


def edit(folder: Path, **fields: Any) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | fields))


def refusal(folder: Path) -> ModelError:
    with pytest.raises(ModelError) as error:
        load_base(str(folder))
    assert str(folder) in error.value.what
    assert error.value.fix
    return error.value


@pytest.fixture(scope="module")
def base(llama_folder: Path) -> Base:
    return load_base(str(llama_folder))


def test_a_base_is_frozen_and_answers_as_transformers_has_it(base: Base, llama_folder: Path) -> None:
    assert base.path == str(llama_folder)
    assert not base.model.training
    assert not any(parameter.requires_grad for parameter in base.model.parameters())
    plain = AutoModelForCausalLM.from_pretrained(llama_folder).eval()
    assert torch.equal(base.model(IDS).logits, plain(IDS).logits)


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("fp32", torch.float32), ("bfloat16", torch.bfloat16), ("bf16", torch.bfloat16), ("fp16", torch.float16)],
)
def test_dtype_is_the_one_asked_for(llama_folder: Path, name: str, dtype: torch.dtype) -> None:
    model = load_base(str(llama_folder), dtype=name).model
    assert {parameter.dtype for parameter in model.parameters()} == {dtype}


def test_auto_is_float32_for_a_small_model_and_the_stored_dtype_for_a_large(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save_base(load_base(base.path, dtype="bf16").model, base.tokenizer, tmp_path)
    assert load_base(str(tmp_path)).model.dtype == torch.float32
    monkeypatch.setattr("graft.model.load.SMALL", 100)
    assert load_base(str(tmp_path)).model.dtype == torch.bfloat16


def test_an_unknown_dtype_is_refused(llama_folder: Path) -> None:
    with pytest.raises(ModelError, match="float31") as error:
        load_base(str(llama_folder), dtype="float31")
    assert "float32" in error.value.fix


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_saved_and_loaded_again_it_is_the_same(base: Base, tmp_path: Path, dtype: str) -> None:
    model = load_base(base.path, dtype=dtype).model
    save_base(model, base.tokenizer, tmp_path / "new/folder")
    again = load_base(str(tmp_path / "new/folder"), dtype=dtype)
    assert torch.equal(again.model(IDS).logits, model(IDS).logits)
    assert json.loads((tmp_path / "new/folder/config.json").read_text())["dtype"] == dtype
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "new/folder")
    assert plain.dtype == model.dtype
    assert AutoTokenizer.from_pretrained(tmp_path / "new/folder")("the")["input_ids"][0] == base.tokenizer.bos_id


def test_fingerprint_is_of_weights_and_architecture(base: Base, folder: Path) -> None:
    assert load_base(str(folder)).fingerprint == base.fingerprint
    edit(folder, transformers_version="5.0.0", use_cache=False, _name_or_path="elsewhere")
    assert load_base(str(folder)).fingerprint == base.fingerprint
    for decisive in (
        {"rope_parameters": {"rope_type": "default", "rope_theta": 5000.0}},
        {"attn_logit_softcapping": 30.0},
        {"layer_types": ["full_attention", "sliding_attention"]},
        {"logits_scaling": 2.0},
    ):
        edit(folder, **decisive)
        assert load_base(str(folder)).fingerprint != base.fingerprint
        shutil.copy(Path(base.path) / "config.json", folder)
    weights = load_file(folder / "model.safetensors")
    weights["model.norm.weight"][0] += 1
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert load_base(str(folder)).fingerprint != base.fingerprint


def test_nothing_is_printed(llama_folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    load_base(str(llama_folder))
    assert capfd.readouterr() == ("", "")


def test_the_tokenizer_loads_without_weights_and_configuration(folder: Path) -> None:
    for name in ("config.json", "model.safetensors"):
        (folder / name).unlink()
    assert load_tokenizer(str(folder)).eos_id == 2


def test_refuses_a_folder_without_configuration(folder: Path) -> None:
    (folder / "config.json").unlink()
    assert "no config.json" in refusal(folder).what
    (folder / "params.json").write_text("{}")
    assert "Hugging Face layout" in refusal(folder).fix
    (folder / "adapter_config.json").write_text("{}")
    assert "is an adapter" in refusal(folder).what


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", "3"])
def test_refuses_a_configuration_that_is_none(folder: Path, content: str) -> None:
    (folder / "config.json").write_text(content)
    error = refusal(folder)
    assert "config.json" in error.what
    assert "fetch the file again" in error.fix


def test_refuses_a_family_that_is_not_proven(folder: Path) -> None:
    edit(folder, model_type="gpt2")
    error = refusal(folder)
    assert "'gpt2'" in error.what
    assert all(name in error.fix for name in SUPPORTED)


@pytest.mark.parametrize(
    "fields",
    [
        {"hidden_size": "wide"},
        {"num_attention_heads": 5},
        {"num_hidden_layers": None},
        {"hidden_act": "nonsense"},
        {"rope_parameters": {"rope_type": "nonsense", "rope_theta": 1.0}},
        {"vocab_size": -1},
    ],
)
def test_refuses_values_that_describe_no_model(folder: Path, fields: dict[str, Any]) -> None:
    edit(folder, **fields)
    assert "config.json" in refusal(folder).what


@pytest.mark.parametrize(
    "fields", [{"model_type": "gemma", "head_dim": 4, "use_bidirectional_attention": True}, {"is_causal": False}]
)
def test_refuses_attention_that_looks_ahead(folder: Path, fields: dict[str, Any]) -> None:
    edit(folder, **fields)
    error = refusal(folder)
    assert "sees those behind it" in error.what
    assert "causal" in error.fix


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_loads_as_it_was_saved(family: str, base: Base, tmp_path: Path) -> None:
    model = build(family, attached=False, dtype=torch.float32)
    model.resize_token_embeddings(base.tokenizer.vocab_size)
    with torch.no_grad():
        expected = model(IDS).logits
    save_base(model, base.tokenizer, tmp_path)
    loaded = load_base(str(tmp_path)).model
    loaded.set_attn_implementation(model.config._attn_implementation)
    assert torch.equal(loaded(IDS).logits, expected)


def test_every_supported_family_is_tested() -> None:
    assert {build(family).config.model_type for family in FAMILIES} == set(SUPPORTED)


def test_refuses_quantised_models(folder: Path) -> None:
    edit(folder, quantization_config={"quant_method": "gptq", "bits": 4})
    assert "unquantised" in refusal(folder).fix


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"num_hidden_layers": 3}, "model.layers.2.input_layernorm.weight is missing"),
        ({"num_hidden_layers": 1}, "model.layers.1.input_layernorm.weight has no place in the model"),
        ({"intermediate_size": 32}, "down_proj.weight has the shape (16, 24), not (16, 32)"),
        ({"attention_bias": True}, "q_proj.bias is missing"),
        ({"vocab_size": 701}, "lm_head.weight has the shape (700, 16), not (701, 16)"),
    ],
)
def test_refuses_weights_that_do_not_fit(folder: Path, fields: dict[str, Any], reason: str) -> None:
    edit(folder, **fields)
    error = refusal(folder)
    assert reason in error.what
    assert "same version" in error.fix


def test_a_head_tied_to_the_embeddings_need_not_be_stored(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    head = weights.pop("lm_head.weight")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    assert "lm_head.weight is missing" in refusal(folder).what
    edit(folder, tie_word_embeddings=True)
    model = load_base(str(folder)).model
    assert torch.equal(model.get_output_embeddings().weight, weights["model.embed_tokens.weight"])
    assert not torch.equal(model.get_output_embeddings().weight, head)


def test_refuses_a_tied_head_that_is_stored_otherwise(folder: Path) -> None:
    edit(folder, tie_word_embeddings=True)
    assert '"tie_word_embeddings": false' in refusal(folder).fix


def test_refuses_a_tokenizer_larger_than_the_embeddings(folder: Path) -> None:
    pad = {
        "content": "<pad>",
        "special": True,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "single_word": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps({"added_tokens_decoder": {"700": pad}}))
    error = refusal(folder)
    assert "ids up to 700, the model has 700 embeddings" in error.what
    assert "tokenizer files" in error.fix
