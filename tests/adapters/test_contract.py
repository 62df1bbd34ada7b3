"""What every method promises, over all methods and the options that change what they compute."""

import copy
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from graft.adapters import METHODS, Adapter, Bank, Provenance, create_adapter, load_adapter, refill, save_adapter
from graft.config import Config, LoraConfig, build_config
from graft.errors import AdapterError, GraftError
from graft.forest import backward_edge_loss, forest_hidden_states, head_of, heads_of, plant
from graft.infer import Engine, Request
from graft.records import Route, TokenSequence
from graft.sections import METHOD_NAMES
from tests.families import FAMILIES, VOCABULARY, build, samples

SOME = ["q_proj", "v_proj"]
OPTIONS: dict[str, dict[str, object]] = {
    "lora": {"lora.r": 4},
    "lora-two-layers": {
        "lora.r": 2,
        "lora.lora_alpha": 3,
        "lora.target_modules": "q_proj,model.layers.1.mlp.down_proj",
    },
    "lora-alpha": {"lora.r": 4, "lora.lora_alpha": 6},
    "lora-rslora": {"lora.r": 4, "lora.use_rslora": True},
    "lora-bias-all": {"lora.r": 4, "lora.target_modules": SOME, "lora.bias": "all"},
    "lora-bias-only": {"lora.r": 4, "lora.target_modules": SOME, "lora.bias": "lora_only"},
    "lora-dropout": {"lora.r": 4, "lora.lora_dropout": 0.5},
    "lora-pissa": {"lora.r": 4, "lora.init": "pissa"},
    "lora-orthogonal": {"lora.r": 4, "lora.init": "orthogonal"},
    "lora-patterns": {"lora.rank_pattern": {"v_proj": 6, r"layers\.1\..*": 2}, "lora.alpha_pattern": {"o_proj": 3}},
    "lora-whole-modules": {
        "lora.r": 4,
        "lora.target_modules": SOME,
        "lora.modules_to_save": ["embed_tokens", "lm_head", "norm", "o_proj"],
    },
    "dora": {"lora.r": 4, "lora.use_dora": True},
    "dora-bias": {"lora.r": 4, "lora.use_dora": True, "lora.target_modules": SOME, "lora.bias": "lora_only"},
    "llama_adapter": {"method": "llama_adapter", "adaption.adapter_len": 5},
    "llama_adapter-layer-gate": {"method": "llama_adapter", "adaption.gate": "layer", "adaption.adapter_layers": 2},
    "llama_adapter_v2": {"method": "llama_adapter_v2", "adaption.adapter_len": 5},
    "prefix": {"method": "prefix", "prefix.num_virtual_tokens": 3},
    "prefix-projection": {"method": "prefix", "prefix.num_virtual_tokens": 9, "prefix.prefix_projection": True},
    "prompt": {"method": "prompt", "prompt.num_virtual_tokens": 9},
    "prompt-text": {"method": "prompt", "prompt.num_virtual_tokens": 4, "prompt.init_text": "abc"},
    "ia3": {"method": "ia3"},
    "bitfit": {"method": "bitfit"},
    "full": {"method": "full"},
    "lora+prefix": {"method": "lora+prefix", "lora.r": 2, "prefix.num_virtual_tokens": 3},
    "lora+llama_adapter": {"method": "lora+llama_adapter", "lora.r": 2},
    "ia3+prompt": {"method": "ia3+prompt"},
}
FAMILIES_OF_ALL = ("llama-tied-biased", "qwen3")
OTHER_FAMILIES = ("phi3", "gemma2", "starcoder2", "olmo2", "cohere", "glm4")
PLAIN = ("lora", "dora", "llama_adapter", "llama_adapter_v2", "prefix", "prompt", "ia3", "bitfit", "full")
CASES = [(option, family) for option in OPTIONS for family in FAMILIES_OF_ALL] + [
    (option, family) for option in PLAIN for family in OTHER_FAMILIES
]
VIRTUAL = ("prefix", "prompt")  # what these begin with is not nothing
EXACT_BEGINNINGS = [c for c in CASES if not any(v in c[0] for v in (*VIRTUAL, "pissa", "orthogonal"))]
MERGEABLE = [c for c in CASES if not any(kind in c[0] for kind in (*VIRTUAL, "llama_adapter", "bitfit"))]


def config_of(option: str) -> Config:
    return build_config(OPTIONS[option])


def fresh(option: str, model: PreTrainedModel) -> Adapter:
    return create_adapter(model, config_of(option), encode=lambda text: [ord(c) % VOCABULARY for c in text])


def grown(option: str, model: PreTrainedModel, *, seed: int = 0) -> Adapter:
    """An adapter that changes the answer, in the model's type."""
    adapter = fresh(option, model)
    for number, (_, parameter) in enumerate(adapter.named_parameters()):
        noise = torch.empty_like(parameter)
        torch.nn.init.normal_(noise, std=0.1, generator=torch.Generator().manual_seed(seed * 1000 + number))
        parameter.data = (parameter.data + noise).to(model.dtype)
    return adapter


def answer(bank: Bank, slot: int | None, *, together: bool = True) -> torch.Tensor:
    """Logits after the last token of some samples, run as one forest or one by one."""
    drawn = [bank.prompted(sample) for sample in samples(6, seed=2, slot=slot)]
    logits = []
    for batch in [drawn] if together else [[sample] for sample in drawn]:
        forest = plant(batch, min_shared=1)
        with torch.no_grad(), bank.routed(forest.routes()):
            hidden = forest_hidden_states(bank.model, forest)
            logits.append(head_of(bank.model, slot)(hidden[list(forest.ends)]))
    return torch.cat(logits)


def test_registry_holds_the_methods_of_the_configuration() -> None:
    assert tuple(METHODS) == METHOD_NAMES
    assert {name.split("-")[0].replace("dora", "lora") for name in OPTIONS if "+" not in name} == set(METHODS)


@pytest.mark.parametrize(("option", "family"), CASES)
def test_only_adapter_parameters_train(option: str, family: str) -> None:
    bank = Bank(build(family))
    adapter = grown(option, bank.model)
    slot = bank.add(adapter)
    mine = {id(parameter) for _, parameter in adapter.named_parameters()}
    assert mine
    assert {id(p) for p in bank.model.parameters() if p.requires_grad} == mine
    forest = plant([bank.prompted(sample) for sample in samples(6, seed=2, slot=slot)], min_shared=1)
    with bank.routed(forest.routes(), needed=forest.edges.distinct_sources):
        hidden = forest_hidden_states(bank.model, forest)
        backward_edge_loss(heads_of(bank.model, forest.routes()), hidden, forest.edges)
    untouched = [name for name, parameter in adapter.named_parameters() if parameter.grad is None]
    assert not untouched, "every one of them has a gradient"
    assert all(parameter.grad is None for parameter in bank.model.parameters() if id(parameter) not in mine)


@pytest.mark.parametrize(("option", "family"), EXACT_BEGINNINGS)
def test_a_fresh_adapter_answers_as_the_base(option: str, family: str) -> None:
    bank = Bank(build(family, dtype=torch.float32))
    base = answer(bank, None)
    slot = bank.add(fresh(option, bank.model))
    assert torch.equal(answer(bank, slot), base)


@pytest.mark.parametrize("option", ["lora-pissa", "lora-orthogonal"])
def test_a_beginning_that_is_not_zero_answers_as_the_base_within_rounding(option: str) -> None:
    bank = Bank(build("qwen3"))
    base = answer(bank, None)
    slot = bank.add(fresh(option, bank.model))
    torch.testing.assert_close(answer(bank, slot), base, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("option", "family"), CASES)
def test_off_is_the_base_bit_for_bit(option: str, family: str) -> None:
    untouched = Bank(build(family))
    bank = Bank(build(family))
    slot = bank.add(grown(option, bank.model))
    assert torch.equal(answer(bank, None), answer(untouched, None))
    assert not torch.allclose(answer(bank, slot), answer(untouched, None))
    assert torch.equal(answer(bank, None), answer(untouched, None)), "still so after it was on"


@pytest.mark.parametrize(("option", "family"), CASES)
def test_a_forest_answers_as_its_samples_one_by_one(option: str, family: str) -> None:
    bank = Bank(build(family))
    slot = bank.add(grown(option, bank.model))
    torch.testing.assert_close(answer(bank, slot), answer(bank, slot, together=False), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("option", "family"), CASES)
def test_gradients_of_a_forest_are_those_of_its_samples_one_by_one(option: str, family: str) -> None:
    bank = Bank(build(family))
    slot = bank.add(grown(option, bank.model))
    drawn = [bank.prompted(sample) for sample in samples(6, seed=2, slot=slot)]
    gradients = []
    for batches in ([drawn], [[sample] for sample in drawn]):
        for batch in batches:
            forest = plant(batch, min_shared=1)
            with bank.routed(forest.routes(), needed=forest.edges.distinct_sources):
                hidden = forest_hidden_states(bank.model, forest)
                backward_edge_loss(heads_of(bank.model, forest.routes()), hidden, forest.edges)
        gradients.append([parameter.grad for _, parameter in bank.adapters[slot].named_parameters()])
        for _, parameter in bank.adapters[slot].named_parameters():
            parameter.grad = None
    one, other = (torch.cat([gradient.flatten() for gradient in of]) for of in gradients)
    assert (one - other).norm() <= 1e-6 * other.norm()


@pytest.mark.parametrize(("option", "family"), MERGEABLE)
def test_merged_answers_as_the_adapter(option: str, family: str) -> None:
    bank = Bank(build(family, dtype=torch.float32))
    slot = bank.add(grown(option, bank.model))
    adapted, base = answer(bank, slot), answer(bank, None)
    names = list(build(family).state_dict())
    merged = bank.merge(slot)
    assert list(merged.state_dict()) == names, "a plain model again"
    difference = (answer(bank, None) - adapted).abs().max()
    assert difference <= 1e-4 * adapted.abs().max()
    assert difference < 0.01 * (base - adapted).abs().max()


@pytest.mark.parametrize("option", ["prefix", "prompt", "llama_adapter", "llama_adapter_v2", "lora+prefix", "bitfit"])
def test_what_cannot_be_merged_says_so_and_changes_nothing(option: str) -> None:
    bank = Bank(build("llama-gqa"))
    slot = bank.add(grown(option, bank.model))
    before = answer(bank, slot)
    with pytest.raises(AdapterError, match=r"(?s)cannot be merged.*--adapter"):
        bank.merge(slot)
    assert torch.equal(answer(bank, slot), before)


@pytest.mark.parametrize(("option", "family"), CASES)
def test_saved_and_loaded_it_is_the_same(option: str, family: str, tmp_path: Path) -> None:
    bank = Bank(build(family, dtype=torch.float32))
    adapter = grown(option, bank.model)
    slot = bank.add(adapter)
    save_adapter(tmp_path, adapter, bank.model, Provenance("base", "auto", "print", {}, {}))
    loaded = load_adapter(tmp_path, bank.model, base_fingerprint="print")
    again = bank.add(loaded)
    torch.testing.assert_close(answer(bank, again), answer(bank, slot), rtol=0, atol=1e-6)
    if "pissa" not in option:  # which is a plain LoRA of twice the rank by then
        assert torch.equal(answer(bank, again), answer(bank, slot))
    resumed = fresh(option, bank.model)
    refill(resumed, tmp_path)
    pairs = zip(resumed.named_parameters(), adapter.named_parameters(), strict=True)
    assert all(torch.equal(one, other) for (_, one), (_, other) in pairs), "a run goes on from the same bits"


@pytest.mark.parametrize("family", ["llama-gqa", "gemma2"])
def test_adapters_of_all_methods_in_one_forest_answer_each_as_if_alone(family: str) -> None:
    bank = Bank(build(family))
    alone = {}
    for number, option in enumerate(OPTIONS):
        single = Bank(build(family))
        if "bias" in option:
            continue  # there are none here
        slot = single.add(grown(option, single.model, seed=number))
        alone[bank.add(grown(option, bank.model, seed=number))] = answer(single, slot)
    slots = [None, *alone]
    mixed = [bank.prompted(sample) for slot in slots for sample in samples(6, seed=2, slot=slot)]
    forest = plant(mixed, min_shared=1)
    with torch.no_grad(), bank.routed(forest.routes()):
        hidden = forest_hidden_states(bank.model, forest)[list(forest.ends)]
    for slot, states in zip(slots, hidden.split(6), strict=True):
        if slot is not None:
            logits = head_of(bank.model, slot)(states)
            torch.testing.assert_close(logits, alone[slot], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("family", ["qwen3", "gemma3", "olmo2", "cohere"])
def test_norms_of_queries_and_keys_are_those_of_each_slot(family: str) -> None:
    bank, alone = Bank(build(family)), []
    for option in ("full", "llama_adapter", "lora", "prefix"):
        single = Bank(build(family))
        alone.append(answer(single, single.add(grown(option, single.model))))
        bank.add(grown(option, bank.model))
    forest = plant([bank.prompted(s) for slot in bank.adapters for s in samples(6, seed=2, slot=slot)], min_shared=1)
    with torch.no_grad(), bank.routed(forest.routes()):
        hidden = forest_hidden_states(bank.model, forest)[list(forest.ends)]
    for slot, states in enumerate(hidden.split(6)):
        logits = head_of(bank.model, slot)(states)
        torch.testing.assert_close(logits, alone[slot], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    ("methods", "what"),
    [("lora+ia3", "both change"), ("prefix+prompt", "both change"), ("full+lora", "both change"),
     ("full+prompt", "both change model.embed_tokens"), ("prompt+full", "both change model.embed_tokens"),
     ("lora+lora", "stands twice"), ("lora+nonsense", "no method is called")],
)  # fmt: skip
def test_methods_that_collide_are_refused(methods: str, what: str) -> None:
    with pytest.raises(GraftError, match=what):
        create_adapter(build("llama-gqa"), build_config({"method": methods}), encode=list)


@pytest.mark.parametrize(
    ("settings", "what"),
    [
        ({"lora.modules_to_save": ["q_proj"]}, "q_proj has LoRA as well"),
        ({"lora.modules_to_save": ["nothing"]}, "no module with weights is called `nothing`"),
        ({"lora.modules_to_save": ["mlp"]}, "no module with weights is called `mlp`"),
        ({"lora.r": 1000}, "above the rank of"),
        ({"lora.rank_pattern": {"v_proj": 1000}}, "above the rank of .*v_proj"),
        ({"lora.rank_pattern": {"vproj": 4}}, "rank_pattern: `vproj` means no layer .*v_proj"),
        ({"lora.alpha_pattern": {"v_proj": 4}, "lora.target_modules": ["q_proj"]}, "alpha_pattern: `v_proj` means no"),
        ({"lora.rank_pattern": {"(": 4}}, "no regular expression"),
        ({"lora.alpha_pattern": {"(?i)V_PROJ": 4}}, "no regular expression"),
        ({"lora.init": "pissa", "lora.r": 9}, "set lora.r to at most 8"),
        ({"lora.init": "orthogonal", "lora.r": 3}, "needs an even rank"),
        ({"lora.init": "pissa", "lora.use_dora": True}, "do not go together"),
        ({"method": "llama_adapter", "adaption.adapter_layers": 9}, "the model has 3 layers"),
        ({"method": "ia3", "ia3.target_modules": ["nothing"]}, "ia3.target_modules"),
        ({"method": "ia3", "ia3.target_modules": ["k_proj"], "ia3.feedforward_modules": ["up_proj"]}, "not among"),
        ({"method": "prompt", "prompt.num_virtual_tokens": 0}, "greater than 0"),
        ({"method": "prefix", "prefix.num_virtual_tokens": 10**9}, "less than or equal to 8192"),
        ({"lora.lora_alpha": 1e308}, "less than or equal to"),
    ],
)
def test_options_that_do_not_do_are_refused(settings: dict[str, object], what: str) -> None:
    with pytest.raises(GraftError, match=f"(?s){what}"):
        create_adapter(build("llama-gqa"), build_config(settings), encode=list)


def test_merged_weight_is_w_plus_s_b_a() -> None:
    bank = Bank(build("llama-gqa", dtype=torch.float32))
    adapter = grown("lora-alpha", bank.model)
    slot = bank.add(adapter)
    name = "model.layers.1.self_attn.q_proj"
    before = bank.model.get_submodule(name).weight.clone()
    graft = adapter.grafts[name]
    bank.merge(slot)
    after = bank.model.get_submodule(name).weight
    torch.testing.assert_close(after, before + 6 / 4 * graft.lora_B @ graft.lora_A)


def test_only_routed_tokens_change() -> None:
    bank = Bank(build("llama-gqa"))
    slot = bank.add(grown("lora", bank.model))
    layer = bank.model.get_submodule("model.layers.0.self_attn.q_proj")
    states = torch.randn(1, 10, 32, dtype=torch.float64)
    base = layer(states)
    with bank.routed([Route(None, 0, 4), Route(slot, 4, 7), Route(None, 7, 10)]):
        mixed = layer(states)
    changed = (mixed != base).any(dim=-1)[0].tolist()
    assert changed == [False] * 4 + [True] * 3 + [False] * 3


def test_dropout_is_on_only_in_training() -> None:
    bank = Bank(build("llama-gqa"))
    adapter = grown("lora-dropout", bank.model)
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
    adapter = grown("lora-bias-all", bank.model)
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


def test_half_a_tie_is_not_merged() -> None:
    bank = Bank(build("llama-tied-biased"))
    adapter = create_adapter(bank.model, build_config({"lora.modules_to_save": ["embed_tokens"]}), encode=list)
    for _, parameter in adapter.named_parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    with pytest.raises(AdapterError, match="are one weight in the base"):
        bank.merge(bank.add(adapter))


@pytest.mark.parametrize("family", ["llama-gqa", "gemma2"])
@pytest.mark.parametrize("option", [*PLAIN, "lora+prefix", "lora+llama_adapter", "lora-whole-modules"])
def test_generation_is_what_the_forward_pass_says_token_by_token(option: str, family: str) -> None:
    bank = Bank(build(family, dtype=torch.float32))
    slot = bank.add(grown(option, bank.model))
    prompts = [(1, 2, 3, 4), (1, 2, 3, 9, 8, 7, 6), (5,)]
    answers = Engine(bank, stop_ids=[]).complete([Request(p, s, 6) for p in prompts for s in (slot, None)])
    for (prompt, chosen), answer in zip(((p, s) for p in prompts for s in (slot, None)), answers, strict=True):
        ids = list(prompt)
        for token in answer:
            sample = bank.prompted(TokenSequence(tuple(ids), (False,) * len(ids), adapter_slot=chosen))
            forest = plant([sample])
            with torch.no_grad(), bank.routed(forest.routes()):
                hidden = forest_hidden_states(bank.model, forest)
            assert int(head_of(bank.model, chosen)(hidden[-1:]).argmax()) == token
            ids.append(token)


def _llama_7b() -> PreTrainedModel:
    from transformers import LlamaConfig as Shape
    from transformers import LlamaForCausalLM

    with torch.device("meta"):
        return LlamaForCausalLM(Shape())


@pytest.mark.parametrize(
    ("settings", "published"),
    [
        ({"lora.r": 8, "lora.target_modules": ["q_proj", "v_proj"]}, 4_194_304),  # alpaca-lora: 4.19M, 0.06%
        ({"method": "llama_adapter"}, 1_229_760),  # LLaMA-Adapter: 1.2M; 30 layers of 10 x 4096, and 32 gates each
        ({"method": "llama_adapter_v2"}, 4_279_744),  # Lit-LLaMA: about 4.3M, scale and bias of the head among them
        ({"method": "full"}, 6_738_415_616),
    ],
)
def test_parameters_of_the_llama_7b_shape_are_the_published_ones(settings: dict[str, object], published: int) -> None:
    assert create_adapter(_llama_7b(), build_config(settings), encode=list).trained_parameters == published


def test_parameters_of_the_chatglm3_6b_shape_are_the_published_ones() -> None:
    """r8 on query_key_value: 1,949,696. Phi-3 fuses queries, keys and values as ChatGLM3 does."""
    from transformers import Phi3Config, Phi3ForCausalLM

    with torch.device("meta"):
        shape = Phi3Config(
            hidden_size=4096, num_hidden_layers=28, num_attention_heads=32, num_key_value_heads=2, pad_token_id=0
        )
        model = Phi3ForCausalLM(shape)
    config = build_config({"lora.r": 8, "lora.target_modules": ["qkv_proj"]})
    assert create_adapter(model, config, encode=list).trained_parameters == 1_949_696
