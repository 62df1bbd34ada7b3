"""LoRA against the quantiser's grid: merged and quantised again, it answers as it was trained."""

from pathlib import Path

import pytest
import torch

from graft.adapters import Adapter, Bank, Provenance, create_adapter, load_adapter, save_adapter
from graft.config import QuantizeName, build_config
from graft.errors import AdapterError
from graft.forest import backward_edge_loss, forest_hidden_states, head_of, plant
from graft.model.quantise import quantise
from tests.families import build, samples

KINDS: list[tuple[QuantizeName, bool]] = [("int8", False), ("nf4", False), ("nf4", True), ("fp4", False)]
CPU = torch.device("cpu")


def bank_of(kind: QuantizeName, double: bool) -> Bank:
    model = build("llama-gqa", dtype=torch.float32)
    quantise(model, kind, double=double, cache="never", device=CPU)
    return Bank(model)


def grown(bank: Bank, **settings: object) -> Adapter:
    named = {f"lora.{name}": value for name, value in {"r": 4, **settings}.items()}
    adapter = create_adapter(bank.model, build_config(named), encode=list)
    for number, (_, parameter) in enumerate(adapter.named_parameters()):
        torch.nn.init.normal_(parameter, std=0.02, generator=torch.Generator().manual_seed(number))
    return adapter


def answer(bank: Bank, slot: int | None) -> torch.Tensor:
    forest = plant(samples(6, seed=2, slot=slot), min_shared=1)
    with torch.no_grad(), bank.routed(forest.routes()):
        return head_of(bank.model, slot)(forest_hidden_states(bank.model, forest))


@pytest.mark.parametrize(("kind", "double"), KINDS)
def test_merged_and_quantised_again_it_answers_as_it_was_trained(kind: QuantizeName, double: bool) -> None:
    errors = {}
    for aware in (False, True):
        bank = bank_of(kind, double)
        slot = bank.add(grown(bank, quantization_aware=aware))
        trained, base = answer(bank, slot), answer(bank, None)
        assert not torch.allclose(trained, base, rtol=1e-2)
        merged = bank.merge(slot)
        quantise(merged, kind, double=double, cache="never", device=CPU)
        errors[aware] = float((answer(Bank(merged), None) - trained).norm() / (trained - base).norm())
    # scales that are quantised themselves move by a rounding of theirs
    assert errors[True] < (0.1 if double else 1e-4)
    assert errors[True] < errors[False]


def test_the_gradient_passes_the_rounding_as_if_it_were_not_there() -> None:
    bank = bank_of("nf4", False)
    slot = bank.add(grown(bank, quantization_aware=True))
    layer, graft = bank.model.model.layers[0].mlp.up_proj, bank.adapters[slot].grafts["model.layers.0.mlp.up_proj"]
    states = torch.randn(1, 5, layer.base.in_features, generator=torch.Generator().manual_seed(3))
    toward = torch.randn(1, 5, layer.base.out_features, generator=torch.Generator().manual_seed(4))
    (graft(states, None, layer.base) * toward).sum().backward()
    of_weight = toward[0].t() @ states[0]
    torch.testing.assert_close(graft.lora_B.grad, graft.scaling * of_weight @ graft.lora_A.detach().t())
    torch.testing.assert_close(graft.lora_A.grad, graft.scaling * graft.lora_B.detach().t() @ of_weight)


def test_read_again_it_is_still_against_the_grid(tmp_path: Path) -> None:
    bank = bank_of("nf4", False)
    adapter = grown(bank, quantization_aware=True)
    save_adapter(tmp_path, adapter, bank.model, Provenance("base", "auto", "print", {}, {}))
    slot, again = bank.add(adapter), bank.add(load_adapter(tmp_path, bank.model))
    assert torch.equal(answer(bank, again), answer(bank, slot))
    with pytest.raises(AdapterError, match="not quantised"):
        load_adapter(tmp_path, build("llama-gqa", dtype=torch.float32))


def test_a_base_that_is_not_quantised_is_refused() -> None:
    model = build("llama-gqa", dtype=torch.float32)
    with pytest.raises(AdapterError, match=r"(?s)not quantised.*model\.quantize"):
        create_adapter(model, build_config({"lora.quantization_aware": True}), encode=list)


def test_its_gradients_train_every_factor() -> None:
    bank = bank_of("nf4", True)
    slot = bank.add(grown(bank, quantization_aware=True))
    forest = plant(samples(6, seed=2, slot=slot))
    with bank.routed(forest.routes()):
        backward_edge_loss(head_of(bank.model, slot), forest_hidden_states(bank.model, forest), forest.edges)
    assert all(bool(parameter.grad.abs().sum() > 0) for _, parameter in bank.adapters[slot].named_parameters())
