"""What an adapter promises, over every precision of the base.

A forest is held to its samples in float64, as for an unquantised base: what a quantised layer gives is then a weight
like any other. The norms, which compute in float32, set the bound; coarser weights make more of their rounding.
"""

from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graft.adapters import METHODS, Adapter, Bank, Provenance, load_adapter, save_adapter
from graft.adapters.contract import ModuleGraft
from graft.config import LoraConfig, QuantizeName
from graft.evaluation.conform import TOLERANCES
from graft.forest import forest_hidden_states, head_of, plant
from graft.model.quantise import quantise
from tests.adapters import test_contract as contract
from tests.families import build, samples
from tests.forest.test_exact import EXACT, grafted, loss_and_gradients

KINDS: dict[str, tuple[QuantizeName, bool]] = {
    "int8": ("int8", False),
    "nf4": ("nf4", False),
    "nf4-double": ("nf4", True),
    "fp4": ("fp4", False),
    "fp4-double": ("fp4", True),
}
HALVES = {"bfloat16": torch.bfloat16, "float16": torch.float16}
FAMILIES = ("llama-tied-biased", "phi3", "gemma2")
CASES = [(precision, family) for precision in (*HALVES, *KINDS) for family in FAMILIES]


def bank_of(precision: str, family: str, *, dtype: torch.dtype = torch.float32) -> Bank:
    """The base of `family` in this precision; what `dtype` says is of the quantised ones."""
    model = build(family, dtype=HALVES.get(precision, dtype))
    if precision in KINDS:
        kind, double = KINDS[precision]
        quantise(model, kind, double=double, cache="never", device=torch.device("cpu"))
    return Bank(model)


def grown(bank: Bank, **settings: Any) -> Adapter:
    """An adapter that changes the answer, in float32 as every adapter is."""
    adapter = METHODS["lora"].create(bank.model, LoraConfig(r=4, **settings), seed=1)
    for number, (_, parameter) in enumerate(adapter.named_parameters()):
        torch.nn.init.normal_(parameter, std=0.1, generator=torch.Generator().manual_seed(number))
    return adapter


def answer(bank: Bank, slot: int | None) -> Tensor:
    forest = plant(samples(6, seed=2, slot=slot), min_shared=1)
    with torch.no_grad(), bank.routed(forest.routes()):
        return head_of(bank.model)(forest_hidden_states(bank.model, forest))


@pytest.mark.parametrize(("precision", "family"), CASES)
def test_only_the_adapters_parameters_train_and_they_are_float32(precision: str, family: str) -> None:
    bank = bank_of(precision, family)
    slot = bank.add(METHODS["lora"].create(bank.model, LoraConfig(r=4), seed=1))
    loss_and_gradients(bank, slot, [plant(samples(4))])
    trained = dict(bank.adapters[slot].named_parameters())
    assert {id(p) for p in bank.model.parameters() if p.requires_grad} == {id(p) for p in trained.values()}
    for name, parameter in trained.items():
        assert parameter.dtype == parameter.grad.dtype == torch.float32, name
    assert any(bool(parameter.grad.any()) for parameter in trained.values())


@pytest.mark.parametrize(("precision", "family"), CASES)
def test_off_is_the_base_bit_for_bit(precision: str, family: str) -> None:
    bank, untouched = bank_of(precision, family), bank_of(precision, family)
    slot = bank.add(grown(bank))
    base = answer(untouched, None)
    assert torch.equal(answer(bank, None), base)
    assert not torch.allclose(answer(bank, slot), base)
    assert torch.equal(answer(bank, None), base), "still so after it was on"


@pytest.mark.parametrize(("precision", "family"), CASES)
@pytest.mark.parametrize("targets", ["all-linear", ["o_proj"]], ids=str)
def test_merged_is_a_plain_model_that_answers_as_the_adapter(precision: str, family: str, targets: Any) -> None:
    bank = bank_of(precision, family)
    slot = bank.add(grown(bank, target_modules=targets))
    adapted, base = answer(bank, slot), answer(bank, None)
    merged = bank.merge(slot)
    assert list(merged.state_dict()) == list(build(family).state_dict())
    assert {type(module) for module in merged.modules() if isinstance(module, nn.Linear)} == {nn.Linear}
    assert {parameter.dtype for parameter in merged.parameters()} == {HALVES.get(precision, torch.float32)}
    difference = (answer(Bank(merged), None) - adapted).abs().max()
    assert difference <= TOLERANCES[merged.dtype] * adapted.abs().max()
    assert difference < 0.2 * (base - adapted).abs().max()


@pytest.mark.parametrize(("precision", "family"), CASES)
def test_saved_and_loaded_it_is_the_same(precision: str, family: str, tmp_path: Path) -> None:
    bank = bank_of(precision, family)
    adapter = grown(bank)
    slot = bank.add(adapter)
    save_adapter(tmp_path, adapter, bank.model, Provenance("base", "auto", "print", {}, {}))
    assert torch.equal(answer(bank, bank.add(load_adapter(tmp_path, bank.model))), answer(bank, slot))


@pytest.mark.parametrize(("precision", "family"), [case for case in CASES if case[0] in KINDS])
def test_a_forest_is_its_samples_one_by_one(precision: str, family: str) -> None:
    bank, slot = grafted(bank_of(precision, family, dtype=torch.float64).model)
    sequences = samples(10, seed=3)
    together, gradients = loss_and_gradients(bank, slot, [plant(sequences, min_shared=1)], as_trained=True)
    apart, expected = loss_and_gradients(bank, slot, [plant([s]) for s in sequences])
    assert together == pytest.approx(apart, rel=EXACT)
    for name, gradient in gradients.items():
        assert (gradient - expected[name]).norm() <= 5 * EXACT * expected[name].norm(), name


@pytest.mark.parametrize(("precision", "family"), [case for case in CASES if case[0] in HALVES])
def test_a_forest_in_half_precision_is_its_samples_to_the_types_rounding(precision: str, family: str) -> None:
    """Products of other sizes round otherwise; a token out of its place would be off by the size of the loss."""
    bank = bank_of(precision, family)
    slot = bank.add(grown(bank))
    sequences = samples(10, seed=3)
    together, _ = loss_and_gradients(bank, slot, [plant(sequences, min_shared=1)], as_trained=True)
    apart, _ = loss_and_gradients(bank, slot, [plant([s]) for s in sequences])
    assert together == pytest.approx(apart, rel=TOLERANCES[HALVES[precision]])


@pytest.mark.parametrize("family", ["llama-tied-biased", "gemma2"])
@pytest.mark.parametrize("precision", ["int8", "nf4", "nf4-double", "fp4"])
@pytest.mark.parametrize("option", contract.PLAIN)
def test_every_method_works_on_a_quantised_base(option: str, precision: str, family: str) -> None:
    """In float64, but for what is merged, which is float32 first."""
    bank, untouched = (bank_of(precision, family, dtype=torch.float64) for _ in range(2))
    adapter = contract.grown(option, bank.model)
    slot = bank.add(adapter)
    mine = {id(parameter) for _, parameter in adapter.named_parameters()}
    assert {id(parameter) for parameter in bank.model.parameters() if parameter.requires_grad} == mine
    base, adapted = contract.answer(untouched, None), contract.answer(bank, slot)
    assert torch.equal(contract.answer(bank, None), base)
    assert not torch.allclose(adapted, base)
    torch.testing.assert_close(contract.answer(bank, slot, together=False), adapted, rtol=EXACT, atol=EXACT)
    if (option, family) in contract.MERGEABLE:
        merged = bank.merge(slot)
        assert list(merged.state_dict()) == list(build(family).state_dict())
        difference = (contract.answer(Bank(merged), None) - adapted).abs().max()
        assert difference <= TOLERANCES[torch.float32] * adapted.abs().max()


@pytest.mark.parametrize("family", ["llama-tied-biased", "gemma2"])
@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("option", contract.PLAIN)
def test_every_method_works_on_a_base_in_half_precision(option: str, precision: str, family: str) -> None:
    bank, untouched = bank_of(precision, family), bank_of(precision, family)
    adapter = contract.fresh(option, bank.model)
    for number, (name, parameter) in enumerate(adapter.named_parameters()):
        assert parameter.dtype == torch.float32
        noise, std = torch.empty_like(parameter), 1.0 if name.endswith("gate") else 0.1
        parameter.data += torch.nn.init.normal_(noise, std=std, generator=torch.Generator().manual_seed(number))
    slot = bank.add(adapter)
    base, adapted = contract.answer(untouched, None), contract.answer(bank, slot)
    tolerance = TOLERANCES[HALVES[precision]] * float(adapted.abs().max())
    assert torch.equal(contract.answer(bank, None), base)
    assert (adapted - base).abs().max() > 2 * tolerance
    assert (contract.answer(bank, slot, together=False) - adapted).abs().max() <= tolerance
    if (option, family) in contract.MERGEABLE:
        merged = bank.merge(slot)
        assert {parameter.dtype for parameter in merged.parameters()} == {HALVES[precision]}
        assert (contract.answer(Bank(merged), None) - adapted).abs().max() <= tolerance


@pytest.mark.parametrize(
    ("option", "layer"),
    [*product(["dora", "llama_adapter_v2"], ["q_proj", "down_proj"]), ("ia3", "down_proj")],  # IA3 leaves queries
)
def test_a_factor_near_1_is_not_rounded_away_in_half_precision(option: str, layer: str) -> None:
    """Between 1 and 1.0078 there is no number in bfloat16: what is trained there would change nothing."""
    model = build("llama-gqa", dtype=torch.bfloat16)
    name = next(n for n, module in model.named_modules() if n.endswith(layer))
    base = model.get_submodule(name)
    graft = contract.fresh(option, model).grafts[name]
    assert isinstance(graft, ModuleGraft)
    states = torch.randn(1, 2000, base.in_features, generator=torch.Generator().manual_seed(1)).bfloat16()
    output = base(states)
    with torch.no_grad():
        for parameter in graft.peft_tensors().values():
            if parameter.flatten()[0] != 0:
                parameter *= 1.003
        if option == "dora":
            graft.lora_A.zero_()
        grown = graft(states, output, base).float()
    ratio = (grown * output.float()).sum() / output.float().square().sum()
    assert float(ratio) == pytest.approx(1.003, abs=3e-4)


def test_a_row_of_zeros_is_no_nan_with_dora() -> None:
    model = build("llama-gqa", dtype=torch.float32)
    model.model.layers[0].self_attn.q_proj.weight.data[3] = 0
    bank = Bank(model)
    base, slot = answer(bank, None), bank.add(contract.fresh("dora", model))
    assert torch.equal(answer(bank, slot), base)
