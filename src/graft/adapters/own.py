"""Weights of an adapter's own in the place of the base's: full fine-tuning, `modules_to_save`, norms, biases."""

from collections.abc import Mapping
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from graft.adapters.contract import ModuleGraft


class OwnGraft(ModuleGraft):
    """A whole module of its own: it begins as a copy of the base's, which stays as it is."""

    def __init__(self, base: nn.Module) -> None:
        super().__init__()
        self._other: list[OwnGraft] = []
        self.weight = nn.Parameter(own_copy(cast(Tensor, base.weight)))
        bias = getattr(base, "bias", None)
        self.bias = None if bias is None else nn.Parameter(own_copy(bias))

    def share(self, other: "OwnGraft") -> None:
        """Train the weight of `other`, as a base does that ties two modules."""
        del self.weight
        self._other = [other]

    def own_weight(self) -> Tensor:
        return self._other[0].weight if self._other else self.weight

    @property
    def stands_alone(self) -> bool:
        return True

    def forward(self, states: Tensor, output: Tensor | None, base: nn.Module) -> Tensor:
        if isinstance(base, nn.Linear):
            bias = None if self.bias is None else self.bias.to(states.dtype)
            return F.linear(states, self.own_weight().to(states.dtype), bias)
        assert output is not None
        tensors = {name: value.to(output.dtype) for name, value in self.file_tensors().items()}
        of_virtual_too = states if states.is_floating_point() else states.clamp(min=0)
        result: Tensor = functional_call(base, tensors, of_virtual_too)
        return result

    def merged(self, base: nn.Module) -> dict[str, Tensor]:
        return {name: value.detach().float() for name, value in self.file_tensors().items()}

    def file_tensors(self) -> dict[str, Tensor]:
        shared = {"weight": self.own_weight().clone()} if self._other else {}  # a file holds no tensor twice
        return {**shared, **self.peft_tensors()}

    def peft_tensors(self) -> dict[str, nn.Parameter]:
        tensors = {} if self._other else {"weight": self.weight}
        return tensors if self.bias is None else {**tensors, "bias": self.bias}


def own_grafts(modules: Mapping[str, nn.Module]) -> dict[str, OwnGraft]:
    """A module of its own for each; those whose weights the base ties stay tied."""
    grafts: dict[str, OwnGraft] = {}
    first_with: dict[int, OwnGraft] = {}
    for name, module in modules.items():
        grafts[name] = OwnGraft(module)
        tied = first_with.setdefault(id(module._parameters.get("weight", module)), grafts[name])
        if tied is not grafts[name]:
            grafts[name].share(tied)
    return grafts


class BiasGraft(ModuleGraft):
    """A bias of its own for a linear layer. The base's, or that it has none, stays as it is."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        zeros = torch.zeros(base.out_features)
        self.bias = nn.Parameter(zeros if base.bias is None else own_copy(base.bias))

    def forward(self, states: Tensor, output: Tensor | None, base: nn.Module) -> Tensor:
        assert output is not None
        assert isinstance(base, nn.Linear)
        return with_bias(output, base, self.bias)

    def merged(self, base: nn.Module) -> dict[str, Tensor]:
        return super().merged(base) if base.bias is None else {"bias": self.bias.detach().float()}

    def peft_tensors(self) -> dict[str, nn.Parameter]:
        return {"bias": self.bias}


def own_copy(tensor: Tensor) -> Tensor:
    """A float32 copy on the CPU; of a meta tensor, another."""
    if tensor.is_meta:
        return torch.empty_like(tensor, dtype=torch.float32)
    return tensor.detach().to("cpu", torch.float32, copy=True)


def with_bias(output: Tensor, base: nn.Linear, bias: Tensor) -> Tensor:
    """`output` with `bias` in the place of the base's: the base itself is never changed, so off is the base again."""
    more = bias if base.bias is None else bias - base.bias.to(bias.dtype)
    return output + more.to(output.dtype)
