"""The contract of the forest: it computes what its samples compute one by one."""

import pytest
import torch
from torch import Tensor
from transformers import PreTrainedModel

from graft.adapters import METHODS, Bank
from graft.config import LoraConfig
from graft.forest import backward_edge_loss, forest_hidden_states, head_of, plant
from graft.records import Forest, TokenSequence
from tests.families import FAMILIES, build, samples

EXACT = 1e-6  # RMSNorm computes in float32 whatever the model's type


def grafted(model: PreTrainedModel) -> tuple[Bank, int]:
    """A bank with a LoRA adapter that changes the answer, in the model's type."""
    bank = Bank(model)
    adapter = METHODS["lora"].create(model, LoraConfig(r=4), seed=1)
    for number, (_, parameter) in enumerate(adapter.named_parameters()):
        torch.nn.init.normal_(parameter, std=0.3, generator=torch.Generator().manual_seed(number))
        parameter.data = parameter.data.to(model.dtype)
    return bank, bank.add(adapter)


def loss_and_gradients(
    bank: Bank, slot: int, forests: list[Forest], *, as_trained: bool = False
) -> tuple[float, dict[str, Tensor]]:
    """`as_trained`: the last MLP runs for edge sources alone, as it does in every training step."""
    parameters = dict(bank.adapters[slot].named_parameters())
    for parameter in parameters.values():
        parameter.grad = None
    loss = 0.0
    for forest in forests:
        with bank.routed(forest.routes(), needed=forest.edges.sources.unique() if as_trained else None):
            hidden = forest_hidden_states(bank.model, forest)
            loss += backward_edge_loss(head_of(bank.model), hidden, forest.edges)
    return loss, {name: parameter.grad.clone() for name, parameter in parameters.items()}


def oracle(family: str, bank: Bank, slot: int, sample: TokenSequence) -> Tensor:
    """Weighted loss of one sample by the family's own dense attention, with the adapter merged into its weights."""
    model = build(family, attached=False)
    for name, graft in bank.adapters[slot].grafts.items():
        layer = model.get_submodule(name)
        layer.weight.data += graft.scaling * graft.lora_B.data @ graft.lora_A.data
    logits = model(torch.tensor([sample.ids])).logits[0].log_softmax(dim=-1)
    places = [place for place, trained in enumerate(sample.trained) if trained]
    return -sample.weight * sum(logits[place - 1, sample.ids[place]] for place in places)


@pytest.mark.parametrize("family", FAMILIES)
def test_forest_equals_samples_one_by_one(family: str) -> None:
    """Loss and every LoRA gradient, with branch-point targets, nested branches and weights."""
    bank, slot = grafted(build(family))
    sequences = samples(14, seed=3)
    forest = plant(sequences, min_shared=1)
    assert len(forest) < forest.logical_tokens
    assert max(len(forest.path(i)) for i in range(len(forest.segments))) >= 3, "branches upon branches"

    together, gradients = loss_and_gradients(bank, slot, [forest], as_trained=True)
    apart, expected = loss_and_gradients(bank, slot, [plant([s]) for s in sequences])

    assert together == pytest.approx(apart, rel=EXACT)
    for name, gradient in gradients.items():
        assert (gradient - expected[name]).norm() <= EXACT * expected[name].norm(), name


@pytest.mark.parametrize("family", FAMILIES)
def test_forest_equals_the_familys_own_dense_attention(family: str) -> None:
    bank, slot = grafted(build(family))
    sequences = samples(10, seed=5)
    forest = plant(sequences, min_shared=1)
    found, _ = loss_and_gradients(bank, slot, [forest])
    expected = float(sum(oracle(family, bank, slot, sample) for sample in sequences))
    assert found == pytest.approx(expected, rel=EXACT)


@pytest.mark.parametrize("seed", range(6))
def test_random_trees(seed: int) -> None:
    bank, slot = grafted(build("llama-gqa"))
    sequences = samples(20, seed=seed + 100)
    one, gradients = loss_and_gradients(bank, slot, [plant(sequences, min_shared=seed % 3 + 1)])
    other, expected = loss_and_gradients(bank, slot, [plant([s]) for s in sequences])
    assert one == pytest.approx(other, rel=EXACT)
    assert all((gradients[name] - expected[name]).norm() <= EXACT * expected[name].norm() for name in gradients)


def test_branch_point_trains_every_first_answer_token() -> None:
    """Two answers part right after a shared prompt: its last token is the source of both first tokens."""
    prompt = (5, 6, 7)
    one = TokenSequence((*prompt, 8, 9), (False, False, False, True, True), weight=2.0)
    other = TokenSequence((*prompt, 10), (False, False, False, True))
    forest = plant([one, other], min_shared=1)
    edges = {
        (int(s), int(t)): float(w)
        for s, t, w in zip(forest.edges.sources, forest.edges.targets, forest.edges.weights, strict=True)
    }
    assert edges[(2, 8)] == 2.0
    assert edges[(2, 10)] == 1.0
    assert len(forest) == 6


def test_two_adapters_in_one_forest_answer_as_if_alone() -> None:
    model = build("llama-gqa")
    bank, first = grafted(model)
    adapter = METHODS["lora"].create(model, LoraConfig(r=2, target_modules=["q_proj", "down_proj"]), seed=2)
    for _, parameter in adapter.named_parameters():
        torch.nn.init.normal_(parameter, std=0.3)
        parameter.data = parameter.data.double()
    second = bank.add(adapter)
    slots = (None, first, second)
    mixed = [s for slot in slots for s in samples(5, seed=4, slot=slot)]
    forest = plant(mixed, min_shared=1)
    with torch.no_grad(), bank.routed(forest.routes()):
        hidden = forest_hidden_states(model, forest)
    for number, sample in enumerate(mixed):
        alone = plant([sample])
        with torch.no_grad(), bank.routed(alone.routes()):
            expected = forest_hidden_states(model, alone)
        torch.testing.assert_close(hidden[forest.trace(number)], expected, rtol=1e-6, atol=1e-6)
