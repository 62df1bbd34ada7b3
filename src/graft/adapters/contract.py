"""The contract that every method keeps: graft modules, run, merge into plain ones, save and load in PEFT's form.

in, out = features of a linear layer. A stream has shape (1, T, features). H, K = query and key/value heads, D = head
size, n = virtual tokens.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.adapters.low_rank import LowRank
from graft.errors import AdapterError
from graft.sections import Section

WHOLE_MODEL = ""
"""The place of virtual tokens: of their keys and values in every layer, or of their embeddings."""


class Graft(nn.Module, ABC):
    """What one adapter adds at one place of a model. Its parameters are the only ones that train."""

    dropout: float = 0.0
    """Probability with which training leaves something out; what is above 0 makes the forward pass random."""

    @abstractmethod
    def peft_tensors(self) -> dict[str, nn.Parameter]:
        """The parameters under the names that PEFT gives them below the place's own name."""

    def file_tensors(self) -> dict[str, Tensor]:
        """What stands in the file under those names: the parameters, unless PEFT knows them in another form."""
        return dict(self.peft_tensors())

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        """Take what `file_tensors` gave; names and shapes are the same."""
        with torch.no_grad():
            for name, parameter in self.peft_tensors().items():
                parameter.copy_(tensors[name])

    def merged(self, base: nn.Module) -> dict[str, Tensor]:
        """Tensors in float32, by name, with which a plain module answers as `base` does with this graft.

        Raises:
            AdapterError: there are none.
        """
        raise AdapterError(
            f"{type(self).__name__.removesuffix('Graft')} adapters cannot be merged: what they train has no place in "
            "the base's weights",
            fix="serve base and adapter: graft chat --adapter, graft eval --adapter",
        )


class ModuleGraft(Graft):
    """A graft on a linear layer, a norm, the embeddings or the output head."""

    @abstractmethod
    def forward(self, states: Tensor, output: Tensor | None, base: nn.Module) -> Tensor:
        """The module's output with this graft, from its input `states` and what comes before this step.

        `output` is the base's own, with the `low_rank` product added to it; None if `stands_alone`.
        """

    def low_rank(self) -> LowRank | None:
        """A product that is added to a linear layer's output in one step with the base."""
        return None

    @property
    def in_one_step(self) -> bool:
        """The product is all that this graft does now."""
        return False

    @property
    def stands_alone(self) -> bool:
        """The base's output is not needed."""
        return False


class AttentionGraft(Graft):
    """A graft on attention, between the projections and the back end."""

    def prefix(self, layer: int) -> tuple[Tensor, Tensor] | None:
        """Keys and values of the virtual tokens in `layer`, (K, n, D) each."""
        return None

    def added(self, attention: nn.Module, query_HTD: Tensor, scaling: float) -> Tensor | None:
        """What queries (1, H, T, D) take from elsewhere, (1, H, T, D), on top of what they take from the stream."""
        return None


@dataclass(frozen=True)
class Adapter:
    """One method's grafts on one model, by the name of the module, or several methods' at once.

    Args:
        virtual_tokens: that stand before every sample.
        parts: the adapters that were joined; none in one of a single method.
    """

    method: str
    settings: Section
    grafts: Mapping[str, Graft]
    virtual_tokens: int = 0
    parts: tuple["Adapter", ...] = ()

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Every trained parameter with its name in the file, in the order of the names."""
        for place in sorted(self.grafts):
            for name, parameter in sorted(self.grafts[place].peft_tensors().items()):
                yield file_name(place, name), parameter

    def train(self, mode: bool = True) -> None:
        """Dropout on or off. The base never has any: it is not what learns."""
        for graft in self.grafts.values():
            graft.train(mode)

    @property
    def deterministic(self) -> bool:
        """The same input gives the same output in training, so that samples may share what they have in common."""
        return not any(graft.dropout for graft in self.grafts.values())

    @property
    def trained_parameters(self) -> int:
        return sum(parameter.numel() for _, parameter in self.named_parameters())


def file_name(place: str, name: str) -> str:
    """A tensor's name in the file: that of PEFT."""
    return name if place == WHOLE_MODEL else f"base_model.model.{place}.{name}"


def join(adapters: tuple[Adapter, ...], *, embeddings: str) -> Adapter:
    """Adapters of several methods as one, which answers for all of them.

    Args:
        embeddings: the name of the model's embeddings, where those of virtual tokens are made.

    Raises:
        AdapterError: two of them change one place, or have virtual tokens.
    """
    if len(adapters) == 1:
        return adapters[0]
    owners: dict[str, str] = {}
    for adapter in adapters:
        for place, graft in adapter.grafts.items():
            for held in {place, embeddings if place == WHOLE_MODEL and isinstance(graft, ModuleGraft) else place}:
                if held in owners:
                    raise AdapterError(
                        f"{owners[held]} and {adapter.method} both change {held or 'what stands before a sample'}",
                        fix="join methods that change different places, such as lora+prefix or lora+llama_adapter",
                    )
                owners[held] = adapter.method
    grafts = {place: graft for adapter in adapters for place, graft in adapter.grafts.items()}
    virtual = sum(adapter.virtual_tokens for adapter in adapters)
    return Adapter("+".join(a.method for a in adapters), Section(), grafts, virtual, adapters)


Encode = Callable[[str], list[int]]


class Method(Protocol):
    """A way to adapt a base. One file each; `graft.adapters.methods` lists them."""

    @property
    def peft_types(self) -> tuple[str, ...]:
        """What `adapter_config.json` may call it; types that PEFT does not know are ours."""
        ...

    def create(self, model: PreTrainedModel, settings: Any, *, seed: int, encode: Encode | None = None) -> Adapter:
        """A fresh adapter for `model`, which is not changed.

        Args:
            settings: the method's own section.
            encode: text to ids, for methods that begin from a text.
        """
        ...

    def peft_config(self, adapter: Adapter, model: PreTrainedModel) -> dict[str, Any]:
        """What `adapter_config.json` says of the adapter on `model`."""
        ...

    def settings_of(self, peft_config: Mapping[str, Any], tensors: Collection[str]) -> Section:
        """The settings behind an `adapter_config.json` beside a file of these `tensors`.

        Raises:
            AdapterError: it asks for what this method cannot honour.
        """
        ...
