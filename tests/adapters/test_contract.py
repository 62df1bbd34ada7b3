"""What every method promises, over all methods and the options that change what they compute."""

import copy
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from graft.adapters import METHODS, Adapter, Bank, Provenance, load_adapter, save_adapter
from graft.config import Config, LoraConfig
from graft.forest import forest_hidden_states, plant
from graft.records import Route
from tests.families import FAMILIES, build, samples

OPTIONS = {
    "plain": LoraConfig(r=4),
    "two-layers": LoraConfig(r=2, lora_alpha=3, target_modules=["q_proj", "model.layers.1.mlp.down_proj"]),
    "rslora": LoraConfig(r=4, use_rslora=True),
    "bias-all": LoraConfig(r=4, target_modules=["q_proj", "v_proj"], bias="all"),
    "bias-lora-only": LoraConfig(r=4, target_modules=["q_proj", "v_proj"], bias="lora_only"),
    "dropout": LoraConfig(r=4, lora_dropout=0.5),
}
CASES = [
    (method, option, family) for method in METHODS for option in OPTIONS for family in ("llama-tied-biased", "qwen2")
] + [(method, "plain", family) for method in METHODS for family in ("phi3", "gemma2", "starcoder2")]


def grown(method: str, settings: LoraConfig, model: PreTrainedModel) -> Adapter:
    """An adapter that changes the answer, in the model's type."""
    adapter = METHODS[method].create(model, settings, seed=1)
    for number, (_, parameter) in enumerate(adapter.named_parameters()):
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(number))
        parameter.data = parameter.data.to(model.dtype)
    return adapter


def answer(bank: Bank, slot: int | None) -> torch.Tensor:
    forest = plant(samples(6, seed=2, slot=slot), min_shared=1)
    with torch.no_grad(), bank.routed(forest.routes()):
        return bank.model.get_output_embeddings()(forest_hidden_states(bank.model, forest))


def test_registry_holds_the_methods_of_the_configuration() -> None:
    assert set(METHODS) == set(Config.model_fields["method"].annotation.__args__)


@pytest.mark.parametrize(("method", "option", "family"), CASES)
def test_only_adapter_parameters_train(method: str, option: str, family: str) -> None:
    model = build(family)
    bank = Bank(model)
    adapter = METHODS[method].create(model, OPTIONS[option], seed=1)
    bank.add(adapter)
    mine = {id(parameter) for _, parameter in adapter.named_parameters()}
    assert mine
    assert {id(p) for p in model.parameters() if p.requires_grad} == mine


@pytest.mark.parametrize(("method", "option", "family"), CASES)
def test_a_fresh_adapter_answers_as_the_base(method: str, option: str, family: str) -> None:
    bank = Bank(build(family))
    base = answer(bank, None)
    slot = bank.add(METHODS[method].create(bank.model, OPTIONS[option], seed=1))
    assert torch.equal(answer(bank, slot), base)


@pytest.mark.parametrize(("method", "option", "family"), CASES)
def test_off_is_the_base_bit_for_bit(method: str, option: str, family: str) -> None:
    untouched = Bank(build(family))
    bank = Bank(build(family))
    slot = bank.add(grown(method, OPTIONS[option], bank.model))
    assert torch.equal(answer(bank, None), answer(untouched, None))
    assert not torch.allclose(answer(bank, slot), answer(untouched, None))
    assert torch.equal(answer(bank, None), answer(untouched, None)), "still so after it was on"


@pytest.mark.parametrize(("method", "option", "family"), CASES)
def test_merged_answers_as_the_adapter(method: str, option: str, family: str) -> None:
    bank = Bank(build(family, dtype=torch.float32))
    slot = bank.add(grown(method, OPTIONS[option], bank.model))
    adapted, base = answer(bank, slot), answer(bank, None)
    names = list(build(family).state_dict())
    merged = bank.merge(slot)
    assert list(merged.state_dict()) == names, "a plain model again"
    difference = (answer(bank, None) - adapted).abs().max()
    assert difference <= 1e-4 * adapted.abs().max()
    assert difference < 0.01 * (base - adapted).abs().max()


@pytest.mark.parametrize(("method", "option", "family"), CASES)
def test_saved_and_loaded_it_is_the_same(method: str, option: str, family: str, tmp_path: Path) -> None:
    bank = Bank(build(family, dtype=torch.float32))
    adapter = grown(method, OPTIONS[option], bank.model)
    slot = bank.add(adapter)
    save_adapter(tmp_path, adapter, bank.model, Provenance("base", "auto", "print", {}, {}))
    loaded = load_adapter(tmp_path, bank.model, base_fingerprint="print")
    assert loaded.settings.model_dump(exclude={"target_modules"}) == adapter.settings.model_dump(
        exclude={"target_modules"}
    )
    assert torch.equal(answer(bank, bank.add(loaded)), answer(bank, slot))


def test_merged_weight_is_w_plus_s_b_a() -> None:
    bank = Bank(build("llama-gqa", dtype=torch.float32))
    adapter = grown("lora", LoraConfig(r=4, lora_alpha=6), bank.model)
    slot = bank.add(adapter)
    name = "model.layers.1.self_attn.q_proj"
    before = bank.model.get_submodule(name).weight.clone()
    graft = adapter.grafts[name]
    bank.merge(slot)
    after = bank.model.get_submodule(name).weight
    torch.testing.assert_close(after, before + 6 / 4 * graft.lora_B @ graft.lora_A)


def test_only_routed_tokens_change() -> None:
    bank = Bank(build("llama-gqa"))
    slot = bank.add(grown("lora", LoraConfig(r=4), bank.model))
    layer = bank.model.get_submodule("model.layers.0.self_attn.q_proj")
    states = torch.randn(1, 10, 32, dtype=torch.float64)
    base = layer(states)
    with bank.routed([Route(None, 0, 4), Route(slot, 4, 7), Route(None, 7, 10)]):
        mixed = layer(states)
    changed = (mixed != base).any(dim=-1)[0].tolist()
    assert changed == [False] * 4 + [True] * 3 + [False] * 3


def test_dropout_is_on_only_in_training() -> None:
    bank = Bank(build("llama-gqa"))
    adapter = grown("lora", LoraConfig(r=4, lora_dropout=0.5), bank.model)
    slot = bank.add(adapter)
    assert torch.equal(answer(bank, slot), answer(bank, slot))
    adapter.train()
    assert not torch.equal(answer(bank, slot), answer(bank, slot))


def test_same_seed_same_beginning() -> None:
    model = build("llama-gqa")
    one, same, other = (METHODS["lora"].create(model, LoraConfig(r=4), seed=seed) for seed in (1, 1, 2))
    pairs = zip(one.named_parameters(), same.named_parameters(), other.named_parameters(), strict=True)
    for (name, a), (_, b), (_, c) in pairs:
        assert torch.equal(a, b)
        assert torch.equal(a, c) == name.endswith("lora_B.weight")


def test_bias_all_trains_biases_outside_the_targets_and_leaves_the_bases_alone() -> None:
    bank = Bank(build("llama-tied-biased"))
    before = copy.deepcopy(bank.model.state_dict())
    adapter = grown("lora", OPTIONS["bias-all"], bank.model)
    bank.add(adapter)
    names = [name for name, _ in adapter.named_parameters()]
    assert "base_model.model.model.layers.0.mlp.up_proj.bias" in names
    assert "base_model.model.model.layers.0.self_attn.q_proj.base_layer.bias" in names
    after = bank.model.state_dict()
    for name, value in before.items():
        match = name if name in after else name.replace(".weight", ".base.weight").replace(".bias", ".base.bias")
        assert torch.equal(after[match], value)


SEPARATE = {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"}
FUSED_MLP = SEPARATE - {"gate_proj", "up_proj"} | {"gate_up_proj"}
LAYERS = {
    "phi3": {"qkv_proj", "o_proj", "gate_up_proj", "down_proj"},
    "glm": FUSED_MLP,
    "glm4": FUSED_MLP,
    "starcoder2": {"q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj"},
}


@pytest.mark.parametrize("family", FAMILIES)
def test_all_linear_means_every_linear_layer_but_the_head(family: str) -> None:
    model = build(family)
    adapter = METHODS["lora"].create(model, LoraConfig(r=2), seed=0)
    kinds = {name.rsplit(".", 1)[-1] for name in adapter.grafts}
    assert kinds == LAYERS.get(model.config.model_type, SEPARATE)
    assert len(adapter.grafts) == len(kinds) * 3


def test_parameters_of_the_llama_7b_shape_are_the_published_ones() -> None:
    """alpaca-lora: r8 on q and v is 4,194,304 parameters, 0.06% of the model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(LlamaConfig())
    adapter = METHODS["lora"].create(model, LoraConfig(r=8, target_modules=["q_proj", "v_proj"]), seed=0)
    assert adapter.trained_parameters == 4_194_304
