"""Frozen layers and low-rank products in one step of autograd, against the formula with a graph."""

import weakref

import pytest
import torch
from torch import Tensor, nn

from graft.adapters import METHODS, Bank
from graft.adapters.linear import GraftedLinear
from graft.adapters.low_rank import LowRank, Part, frozen_linear
from graft.config import LoraConfig
from graft.forest import backward_edge_loss, forest_hidden_states, head_of, plant
from graft.records import Route
from tests.families import FAMILIES, build, samples

TOKENS, IN = 7, 6


def layers(*outs: int, bias: bool = False) -> list[nn.Linear]:
    torch.manual_seed(5)
    return [nn.Linear(IN, out, bias=bias, dtype=torch.float64).requires_grad_(False) for out in outs]


def low_rank(out: int, r: int) -> LowRank:
    factors = (torch.randn(r, IN, dtype=torch.float64), torch.randn(out, r, dtype=torch.float64))
    return LowRank(*(factor.requires_grad_() for factor in factors), scaling=0.7)


def by_formula(states: Tensor, bases: list[nn.Linear], parts: list[Part]) -> list[Tensor]:
    outputs = [base(states) for base in bases]
    for part in parts:
        for number, low in enumerate(part.added):
            if low is not None:
                rows = torch.zeros(TOKENS, 1, dtype=torch.float64)
                rows[part.start : part.stop] = low.scaling
                outputs[number] = outputs[number] + rows * (states @ (low.lora_B @ low.lora_A).t())
    return outputs


def parts_of(kind: str, outs: tuple[int, ...]) -> list[Part]:
    torch.manual_seed(6)
    if kind == "whole":
        return [Part(0, TOKENS, [low_rank(out, 2) for out in outs])]
    if kind == "some layers":
        return [Part(0, TOKENS, [low_rank(outs[0], 3), *(None for _ in outs[1:])])]
    if kind == "two adapters":
        return [Part(1, 4, [low_rank(out, 2) for out in outs]), Part(4, 6, [None, *(low_rank(o, 1) for o in outs[1:])])]
    return []


@pytest.mark.parametrize("kind", ["none", "whole", "some layers", "two adapters"])
@pytest.mark.parametrize("bias", [False, True])
def test_outputs_and_gradients(kind: str, bias: bool) -> None:
    outs = (4, 5, 3)
    bases, parts = layers(*outs, bias=bias), parts_of(kind, outs)
    trained = [factor for part in parts for low in part.added if low for factor in (low.lora_A, low.lora_B)]
    states = torch.randn(1, TOKENS, IN, dtype=torch.float64, requires_grad=True)
    toward = [torch.randn(1, TOKENS, out, dtype=torch.float64) for out in outs]
    found = frozen_linear([states], bases, parts)
    expected = by_formula(states, bases, parts)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
    gradients = [
        torch.autograd.grad(sum((o * t).sum() for o, t in zip(outputs, toward, strict=True)), [states, *trained])
        for outputs in (found, expected)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_batch_of_streams_runs_whole() -> None:
    bases, parts = layers(4), [Part(0, TOKENS, [low_rank(4, 2)])]
    states = torch.randn(3, TOKENS, IN, dtype=torch.float64)
    torch.testing.assert_close(frozen_linear([states], bases, parts)[0], by_formula(states, bases, parts)[0])


def test_weights_are_widened_for_a_wider_stream() -> None:
    base = layers(4)[0].bfloat16()
    states = torch.randn(1, TOKENS, IN, requires_grad=True)
    output = frozen_linear([states], [base])[0]
    assert output.dtype == torch.float32
    assert torch.equal(output, states @ base.weight.float().t())
    output.sum().backward()
    assert torch.equal(states.grad[0, 0], base.weight.float().sum(0))


def test_a_layer_called_with_another_input_than_its_siblings_answers_it() -> None:
    bank = Bank(build("llama-gqa"))
    adapter = METHODS["lora"].create(bank.model, LoraConfig(r=2), seed=1)
    for _, parameter in adapter.named_parameters():
        parameter.data = torch.randn(parameter.shape, dtype=torch.float64)
    bank.add(adapter)
    attention = bank.model.model.layers[0].self_attn

    def alone(layer: GraftedLinear, states: Tensor) -> Tensor:
        graft = layer.grafts["0"]
        return layer.base(states) + graft.scaling * states @ (graft.lora_B @ graft.lora_A).t()

    one, other = (torch.randn(1, TOKENS, 32, dtype=torch.float64) for _ in range(2))
    with bank.routed([Route(0, 0, TOKENS)]):
        attention.q_proj(one)
        torch.testing.assert_close(attention.k_proj(other), alone(attention.k_proj, other))
        torch.testing.assert_close(attention.v_proj(one), alone(attention.v_proj, one))
        torch.testing.assert_close(attention.v_proj(one), alone(attention.v_proj, one), msg="twice the same")
        attention.q_proj(one)
    assert torch.equal(attention.k_proj(one), attention.k_proj.base(one)), "the same input on other routes"


def test_what_a_broken_off_pass_leaves_waiting_is_let_go() -> None:
    bank = Bank(build("llama-gqa"))
    bank.add(METHODS["lora"].create(bank.model, LoraConfig(r=2), seed=1))
    states = torch.randn(1, TOKENS, 32, dtype=torch.float64)
    gone = weakref.ref(states)
    with bank.routed([Route(0, 0, TOKENS)]):
        bank.model.model.layers[0].self_attn.q_proj(states)
    del states
    assert gone() is None


@pytest.mark.parametrize(
    "routes", [[Route(7, 0, TOKENS)], [Route(0, 0, 2), Route(0, 3, TOKENS)], [Route(0, 1, TOKENS)]]
)
def test_routes_are_of_slots_that_are_there_and_leave_no_gap(routes: list[Route]) -> None:
    bank = Bank(build("llama-gqa"))
    bank.add(METHODS["lora"].create(bank.model, LoraConfig(r=2), seed=1))
    with pytest.raises(AssertionError), bank.routed(routes):
        pass


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_in_half_precision_run_where_there_are_no_instructions_for_it(
    family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a float32 copy of the same weights, but for what rounds to the weights' type between the layers."""
    monkeypatch.setattr("graft.runtime._has_instructions_for", lambda _: False)
    model, copy = build(family, dtype=torch.bfloat16), build(family, dtype=torch.bfloat16).float()
    forest = plant(samples(6, slot=None))
    logits = []
    for bank in (Bank(model), Bank(copy)):
        with torch.no_grad(), bank.routed(forest.routes()):
            logits.append(head_of(bank.model)(forest_hidden_states(bank.model, forest)).float())
    narrow = any(isinstance(module, nn.LayerNorm) for module in model.modules())
    error = (logits[0] - logits[1]).norm() / logits[1].norm()
    assert error < (0.1 if narrow else 0.02)


def test_siblings_read_their_input_once(monkeypatch: pytest.MonkeyPatch) -> None:
    bank = Bank(build("llama-gqa"))
    slot = bank.add(METHODS["lora"].create(bank.model, LoraConfig(r=2), seed=1))
    runs: list[int] = []

    def counted(inputs: list[Tensor], bases: list[nn.Linear], parts: list[Part], **made: object) -> list[Tensor]:
        runs.append(len(bases))
        return frozen_linear(inputs, bases, parts, **made)

    monkeypatch.setattr("graft.adapters.linear.frozen_linear", counted)
    forest = plant(samples(5, slot=slot))
    with torch.no_grad(), bank.routed(forest.routes()):
        forest_hidden_states(bank.model, forest)
    assert runs == [3, 1, 2, 1] * 3
    assert all(not layer.siblings._inputs for layer in bank.model.modules() if isinstance(layer, GraftedLinear))


@pytest.mark.parametrize("family", ["llama-gqa", "qwen3"])
def test_the_last_mlp_runs_for_what_is_needed_and_the_rest_is_as_ever(family: str) -> None:
    model = build(family)
    bank = Bank(model)
    slots = [bank.add(METHODS["lora"].create(model, LoraConfig(r=2), seed=seed)) for seed in (1, 2)]
    for number, (_, parameter) in enumerate(p for s in slots for p in bank.adapters[s].named_parameters()):
        torch.nn.init.normal_(parameter, std=0.2, generator=torch.Generator().manual_seed(number))
        parameter.data = parameter.data.double()
    forest = plant([s for slot in (None, *slots) for s in samples(5, seed=4, slot=slot)], min_shared=1)
    sources = forest.edges.sources.unique()
    assert len(sources) < len(forest)
    rows: list[int] = []
    handle = model.model.layers[-1].mlp.down_proj.register_forward_hook(
        lambda _, inputs, __: rows.append(inputs[0].shape[1])
    )
    results, forward = [], model.model.layers[-1].mlp.forward
    for needed in (None, sources):
        with bank.routed(forest.routes(), needed=needed):
            hidden = forest_hidden_states(model, forest)
            loss = backward_edge_loss(head_of(model), hidden, forest.edges)
        parameters = [p for s in slots for _, p in bank.adapters[s].named_parameters()]
        results.append((hidden.detach()[sources], loss, [p.grad.clone() for p in parameters]))
        for parameter in parameters:
            parameter.grad = None
    handle.remove()
    assert rows == [len(forest), len(sources)]
    (whole, whole_loss, whole_gradients), (narrow, loss, gradients) = results
    torch.testing.assert_close(narrow, whole)
    assert loss == pytest.approx(whole_loss, rel=1e-12)
    for one, other in zip(gradients, whole_gradients, strict=True):
        torch.testing.assert_close(one, other)
    assert model.model.layers[-1].mlp.forward is forward


def test_a_gated_mlp_keeps_gate_and_up_alone() -> None:
    model = build("llama-gqa")
    bank = Bank(model)
    slot = bank.add(METHODS["lora"].create(model, LoraConfig(r=2), seed=1))
    wide: list[Tensor] = []

    def kept(tensor: Tensor) -> Tensor:
        if tensor.shape[-1] == model.config.intermediate_size and tensor.shape[-2] == TOKENS:
            wide.append(tensor)
        return tensor

    states = torch.randn(1, TOKENS, 32, dtype=torch.float64, requires_grad=True)
    with bank.routed([Route(slot, 0, TOKENS)]), torch.autograd.graph.saved_tensors_hooks(kept, lambda tensor: tensor):
        model.model.layers[0].mlp(states)
    assert len(wide) == 2
