"""Several adapters as one: the weighted sum of what each of them does."""

import pytest
import torch

from graft.adapters import Adapter, Bank, blend, create_adapter
from graft.config import build_config
from graft.errors import AdapterError
from graft.forest import forest_hidden_states, head_of, plant
from tests.families import build, samples

LORA = {"lora.r": 4}
KINDS = {
    "lora": ({"lora.r": 4}, {"lora.r": 2, "lora.target_modules": ["q_proj", "up_proj"]}),
    "lora-and-ia3": ({"lora.r": 4, "lora.bias": "all"}, {"method": "ia3"}),
    "dora-and-full": ({"lora.r": 4, "lora.use_dora": True}, {"method": "full"}),
}


def grown(bank: Bank, settings: dict[str, object], seed: int) -> Adapter:
    adapter = create_adapter(bank.model, build_config(settings), encode=list)
    for number, (_, parameter) in enumerate(adapter.named_parameters()):
        noise = torch.empty_like(parameter)
        torch.nn.init.normal_(noise, std=0.1, generator=torch.Generator().manual_seed(seed * 1000 + number))
        parameter.data += noise
    return adapter


def answer(bank: Bank, slot: int | None) -> torch.Tensor:
    forest = plant(samples(6, seed=2, slot=slot), min_shared=1)
    with torch.no_grad(), bank.routed(forest.routes()):
        return head_of(bank.model, slot)(forest_hidden_states(bank.model, forest))


@pytest.mark.parametrize("kind", KINDS)
def test_merged_answers_as_the_blend(kind: str) -> None:
    bank = Bank(build("llama-tied-biased", dtype=torch.float32))
    one, other = (grown(bank, settings, seed) for seed, settings in enumerate(KINDS[kind]))
    slot = bank.add(blend([(one, 0.7), (other, -0.4)]))
    expected, base = answer(bank, slot), answer(bank, None)
    bank.merge(slot)
    difference = (answer(bank, None) - expected).abs().max()
    assert difference <= 1e-4 * expected.abs().max()
    assert difference < 0.01 * (base - expected).abs().max()


def test_a_blend_of_one_is_that_one() -> None:
    bank = Bank(build("qwen3"))
    adapter = grown(bank, LORA, 0)
    slot, blended = bank.add(adapter), bank.add(blend([(adapter, 1.0)]))
    torch.testing.assert_close(answer(bank, blended), answer(bank, slot), rtol=1e-5, atol=1e-6)


def test_the_merged_weight_is_the_sum() -> None:
    bank = Bank(build("llama-gqa", dtype=torch.float32))
    name = "model.layers.1.self_attn.q_proj"
    weight = bank.model.get_submodule(name).weight.clone()
    one, other = (grown(bank, LORA, seed) for seed in (0, 1))
    expected = weight
    for adapter, share in ((one, 0.7), (other, 0.3)):
        graft = adapter.grafts[name]
        expected = expected + share * graft.scaling * graft.lora_B @ graft.lora_A
    bank.merge(bank.add(blend([(one, 0.7), (other, 0.3)])))
    torch.testing.assert_close(bank.model.get_submodule(name).weight, expected)


@pytest.mark.parametrize("method", ["prefix", "prompt", "llama_adapter"])
def test_what_cannot_be_merged_is_not_blended(method: str) -> None:
    bank = Bank(build("llama-gqa"))
    with pytest.raises(AdapterError, match="cannot be merged"):
        blend([(grown(bank, LORA, 0), 0.5), (grown(bank, {"method": method}, 1), 0.5)])
