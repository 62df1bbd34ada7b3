"""Optimizers: each learns, decays matrices only, and goes on from its saved state to the same bits."""

import sys
from typing import Any, get_args

import pytest
import torch
from torch import Tensor, nn

from graft.config import TrainConfig
from graft.errors import ConfigError, RunError
from graft.training import build_optimizer, check_optimizer
from graft.training.optimizer import OPTIMIZERS, optimizer_tensors, restore_optimizer
from tests.training.conftest import DEVICE, every_optimizer

CPU = torch.device("cpu")


class Parts(nn.Module):
    """A parameter of each kind that adapters have; `factor` is large enough for states of 8 bits."""

    def __init__(self) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.ones(70, 60))
        self.small = nn.Parameter(torch.ones(2, 3))
        self.prompts = nn.Parameter(torch.ones(3, 4, 5))
        self.magnitude = nn.Parameter(torch.ones(7))
        self.gate = nn.Parameter(torch.ones(()))
        self.to(DEVICE)

    @property
    def named(self) -> list[tuple[str, nn.Parameter]]:
        return list(self.named_parameters())

    def step(self, optimizer: torch.optim.Optimizer, seed: int | None = None) -> None:
        """A step with gradients drawn from `seed`; all 0 without one."""
        generator = torch.Generator().manual_seed(seed or 0)
        for parameter in self.parameters():
            drawn = torch.randn(parameter.shape, generator=generator).to(DEVICE)
            parameter.grad = torch.zeros_like(parameter) if seed is None else drawn
        optimizer.step()


def settings(name: str = "adamw", **others: Any) -> TrainConfig:
    return TrainConfig.model_validate({"optimizer": name, "learning_rate": 0.01, **others})


def test_the_names_are_those_of_the_setting() -> None:
    assert get_args(TrainConfig.model_fields["optimizer"].annotation) == tuple(OPTIMIZERS)


# What a step does.


@every_optimizer()
def test_each_learns(name: str) -> None:
    """Least squares, with as many equations as unknowns."""
    generator = torch.Generator().manual_seed(0)
    inputs, wanted = (torch.randn(70, 70, generator=generator).to(DEVICE) for _ in range(2))
    weight = nn.Parameter(torch.zeros(70, 70, device=DEVICE))
    optimizer = build_optimizer([("weight", weight)], settings(name, learning_rate=0.02))
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = (inputs @ weight - wanted).square().mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]


def test_a_factor_of_rank_1_is_a_matrix_and_a_vector_of_ia3_none() -> None:
    shapes = {"a.lora_A.weight": (1, 5), "a.lora_B.weight": (5, 1), "a.ia3_l": (5, 1), "b.ia3_l": (1, 5)}
    named = [(name, nn.Parameter(torch.ones(shape))) for name, shape in shapes.items()]
    decays = {
        id(parameter): group["weight_decay"]
        for group in build_optimizer(named, settings(weight_decay=0.5)).param_groups
        for parameter in group["params"]
    }
    assert [decays[id(parameter)] for _, parameter in named] == [0.5, 0.5, 0.0, 0.0]


@every_optimizer()
def test_weight_decay_shrinks_what_has_two_dimensions_or_more(name: str) -> None:
    parts = Parts()
    optimizer = build_optimizer(parts.named, settings(name, learning_rate=0.1, weight_decay=0.5))
    parts.step(optimizer)
    for parameter in (parts.factor, parts.small, parts.prompts):
        assert parameter.flatten()[0].item() == pytest.approx(1 - 0.1 * 0.5)
    assert (parts.magnitude[0].item(), parts.gate.item()) == (1, 1)


@every_optimizer()
def test_a_gradient_of_0_moves_nothing(name: str) -> None:
    """Such is the first gradient of lora_A, as lora_B begins at 0."""
    parts = Parts()
    optimizer = build_optimizer(parts.named, settings(name))
    for _ in range(3):
        parts.step(optimizer)
    assert all(torch.equal(parameter, torch.ones_like(parameter)) for parameter in parts.parameters())


def test_lion_by_its_formula() -> None:
    """Algorithm 2: the sign of the gradient mixed into the average, which moves on only then."""
    pytest.importorskip("bitsandbytes")
    parts, rate, decay = Parts(), 0.01, 0.3
    optimizer = build_optimizer(parts.named, settings("lion", weight_decay=decay))
    expected = torch.ones(70, 60).double()
    average = torch.zeros(70, 60).double()
    for seed in (1, 2, 3):
        parts.step(optimizer, seed)
        gradient = gradient_of(parts.factor)
        expected = expected - rate * ((0.9 * average + 0.1 * gradient).sign() + decay * expected)
        average = 0.99 * average + 0.01 * gradient
    torch.testing.assert_close(parts.factor.cpu().double(), expected, rtol=0, atol=1e-6)


def test_adafactor_by_its_formula() -> None:
    """Algorithms 4 and 5 with the decay and the clipping of algorithm 6, at an absolute rate."""
    parts, rate = Parts(), 0.01
    optimizer = build_optimizer(parts.named, settings("adafactor"))
    matrix, vector = torch.ones(70, 60).double(), torch.ones(7).double()
    rows, columns, squares = torch.zeros(70).double(), torch.zeros(60).double(), torch.zeros(7).double()
    for step in (1, 2, 3):
        parts.step(optimizer, step)
        kept = 1 - step**-0.8
        gradient = gradient_of(parts.factor)
        rows = kept * rows + (1 - kept) * gradient.square().sum(dim=1)
        columns = kept * columns + (1 - kept) * gradient.square().sum(dim=0)
        matrix = matrix - rate * clipped(gradient / (torch.outer(rows, columns) / rows.sum()).sqrt())
        gradient = gradient_of(parts.magnitude)
        squares = kept * squares + (1 - kept) * gradient.square()
        vector = vector - rate * clipped(gradient / squares.sqrt())
    torch.testing.assert_close(parts.factor.cpu().double(), matrix, rtol=0, atol=1e-6)
    torch.testing.assert_close(parts.magnitude.cpu().double(), vector, rtol=0, atol=1e-6)


def gradient_of(parameter: nn.Parameter) -> Tensor:
    assert parameter.grad is not None
    return parameter.grad.cpu().double()


def clipped(update: Tensor) -> Tensor:
    return update / max(1.0, update.square().mean().sqrt().item())


@pytest.mark.parametrize("scale", [1.0, 1e-6])
def test_adafactor_steps_alike_however_small_gradients_and_weights_are(scale: float) -> None:
    """Those of an adapter are far below the floors that PyTorch has by default."""
    weight = nn.Parameter(torch.zeros(8, 8))
    optimizer = build_optimizer([("weight", weight)], settings("adafactor"))
    direction = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    sizes = []
    for share in (1.0, 0.1):
        before = weight.detach().clone()
        weight.grad = direction * scale * share
        optimizer.step()
        sizes.append((weight - before).square().mean().sqrt().item())
    assert sizes[0] == pytest.approx(0.01), "the rate"
    average = 1 - 2**-0.8 + 2**-0.8 * 0.1**2
    assert sizes[1] == pytest.approx(sizes[0] * 0.1 / average**0.5, rel=0.2), "a smaller gradient is a smaller step"


# LoRA+.


def lora(*names: str) -> list[tuple[str, nn.Parameter]]:
    layer = "base_model.model.model.layers.0.self_attn.q_proj"
    return [(f"{layer}.{name}", nn.Parameter(torch.ones(3, 2, device=DEVICE))) for name in names]


@every_optimizer()
def test_lora_plus_gives_lora_b_its_ratio_of_the_rate(name: str) -> None:
    named = lora("lora_A.weight", "lora_B.weight", "lora_magnitude_vector")
    optimizer = build_optimizer(named, settings(name, lora_plus_ratio=16))
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 3
    factors = {id(p): group["lr_factor"] for group in optimizer.param_groups for p in group["params"]}
    assert [factors[id(parameter)] for _, parameter in named] == [1, 16, 1]


def test_lora_plus_without_a_lora_b_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"train\.lora_plus_ratio 4 is for lora_B, and the adapter has none"):
        build_optimizer(lora("prompt", "lora_Bias"), settings(lora_plus_ratio=4))


# What does not work here.


@pytest.mark.parametrize("name", [name for name, kind in OPTIMIZERS.items() if kind.paged])
def test_paged_on_a_cpu_is_refused_and_those_that_work_are_named(name: str) -> None:
    pytest.importorskip("bitsandbytes")
    with pytest.raises(ConfigError, match=f"train.optimizer {name} moves its state") as caught:
        check_optimizer(name, CPU)
    assert caught.value.fix == "set train.optimizer to adamw, adamw_8bit, adafactor, lion"


@pytest.mark.parametrize("name", [name for name, kind in OPTIMIZERS.items() if kind.library == "bitsandbytes"])
def test_without_bitsandbytes_the_way_to_it_is_named(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    what = f"train.optimizer {name} is of bitsandbytes, which is not installed"
    with pytest.raises(ConfigError, match=what) as caught:
        build_optimizer(lora("lora_A.weight"), settings(name))
    assert caught.value.fix == "pip install 'graft-llm[quant]', or set train.optimizer to adamw, adafactor"


# Its state.


@every_optimizer()
def test_a_restored_optimizer_steps_to_the_same_bits(name: str) -> None:
    parts, again = Parts(), Parts()
    optimizer, fresh = build_optimizer(parts.named, settings(name)), build_optimizer(again.named, settings(name))
    for seed in (1, 2, 3):
        parts.step(optimizer, seed)
    restore_optimizer(fresh, again.named, optimizer_tensors(optimizer, parts.named))
    again.load_state_dict(parts.state_dict())
    for seed in (4, 5):
        parts.step(optimizer, seed)
        again.step(fresh, seed)
        assert all(torch.equal(a, b) for a, b in zip(parts.parameters(), again.parameters(), strict=True))
    saved, restored = optimizer_tensors(optimizer, parts.named), optimizer_tensors(fresh, again.named)
    assert all(torch.equal(saved[key], restored[key]) for key in saved.keys() | restored.keys())


@every_optimizer()
def test_what_has_had_no_gradient_has_no_state_before_and_after(name: str) -> None:
    parts, again = Parts(), Parts()
    optimizer, fresh = build_optimizer(parts.named, settings(name)), build_optimizer(again.named, settings(name))
    parts.factor.grad = torch.ones_like(parts.factor)
    optimizer.step()
    tensors = optimizer_tensors(optimizer, parts.named)
    assert {key.partition(".")[0] for key in tensors} == {"factor"}
    again.step(fresh, seed=1)
    restore_optimizer(fresh, again.named, tensors)
    assert optimizer_tensors(fresh, again.named).keys() == tensors.keys()
    assert all(parameter.grad is None for parameter in again.parameters())


@pytest.mark.parametrize("fault", ["missing", "shape", "type", "name"])
def test_the_state_of_other_parameters_is_refused(fault: str) -> None:
    parts = Parts()
    optimizer = build_optimizer(parts.named, settings())
    parts.step(optimizer, 1)
    tensors = optimizer_tensors(optimizer, parts.named)
    tensor = tensors.pop("small.exp_avg")
    odd = {"shape": tensor[:1], "type": tensor.double()}.get(fault)
    if odd is not None:
        tensors["small.exp_avg"] = odd
    elif fault == "name":
        tensors = {key.replace("small.", "little."): value for key, value in tensors.items()}
    with pytest.raises(RunError, match=r"of other parameters: .*(small|little)\.exp_avg"):
        restore_optimizer(optimizer, parts.named, tensors)
