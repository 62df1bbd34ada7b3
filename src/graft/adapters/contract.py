"""The contract that every method keeps: wrap a linear layer, run, merge into a plain one, save and load in PEFT's form.

in, out = features of the wrapped layer. A stream has shape (..., T, features).
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.adapters.low_rank import LowRank
from graft.config import LoraConfig


class Graft(nn.Module, ABC):
    """What one adapter adds to one linear layer. Its parameters are the only ones that train."""

    @abstractmethod
    def forward(self, states: Tensor, output: Tensor, base: nn.Linear) -> Tensor:
        """The layer's output with this graft, from its input `states` and the base's own `output` for them."""

    def low_rank(self) -> LowRank | None:
        """The product that is all this graft adds now, run in one step with the base in the place of `forward`."""
        return None

    @abstractmethod
    def merged(self, weight: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Weight (out, in) and bias (out,) in float32 of the plain layer that answers as the grafted one."""

    @abstractmethod
    def peft_tensors(self) -> dict[str, nn.Parameter]:
        """The parameters under the names that PEFT gives them below the layer's own name."""


@dataclass(frozen=True)
class Adapter:
    """One method's grafts on one model, by the name of the layer."""

    method: str
    settings: LoraConfig
    grafts: Mapping[str, Graft]

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every trained parameter with its name in the file, in the order of the names."""
        for layer in sorted(self.grafts):
            for name, parameter in sorted(self.grafts[layer].peft_tensors().items()):
                yield f"base_model.model.{layer}.{name}", parameter

    def train(self, mode: bool = True) -> None:
        """Dropout on or off. The base never has any: it is not what learns."""
        for graft in self.grafts.values():
            graft.train(mode)

    @property
    def deterministic(self) -> bool:
        """The same input gives the same output in training, so that samples may share what they have in common."""
        return not self.settings.lora_dropout

    @property
    def trained_parameters(self) -> int:
        return sum(parameter.numel() for _, parameter in self.named_parameters())


class Method(Protocol):
    """A way to adapt a base. One file each; `METHODS` in `graft.adapters` lists them."""

    peft_type: str

    def create(self, model: PreTrainedModel, settings: LoraConfig, *, seed: int) -> Adapter:
        """A fresh adapter for `model`, which still answers as the base."""
        ...

    def peft_config(self, adapter: Adapter, model: PreTrainedModel) -> dict[str, Any]:
        """What `adapter_config.json` says of the adapter on `model`."""
        ...

    def settings_of(self, peft_config: Mapping[str, Any]) -> LoraConfig:
        """The settings behind an `adapter_config.json`; what this method cannot honour is an error."""
        ...
