"""Several adapters as one, each with a weight: what each of them changes is added up.

For LoRA this is W + sum of w_i * scaling_i * B_i A_i, the linear combination of task vectors (Ilharco et al. 2022,
arXiv 2212.04089).
"""

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from graft.adapters.contract import Adapter, Graft, ModuleGraft
from graft.errors import AdapterError
from graft.sections import Section


class BlendGraft(ModuleGraft):
    """The base's output and the weighted sum of what several grafts change of it."""

    def __init__(self, grafts: Sequence[tuple[ModuleGraft, float]]) -> None:
        super().__init__()
        self.grafts = nn.ModuleList(graft for graft, _ in grafts)
        self._weighted = grafts

    def forward(self, states: Tensor, output: Tensor | None, base: nn.Module) -> Tensor:
        assert output is not None
        blended = output
        for graft, weight in self._weighted:
            grown = output
            if (low := graft.low_rank()) is not None:
                narrow = F.linear(states, low.lora_A.to(states.dtype))
                grown = grown + F.linear(narrow, low.lora_B.to(states.dtype)) * low.scaling
            if not graft.in_one_step:
                grown = graft(states, grown, base)
            blended = blended + weight * (grown - output)
        return blended

    def merged(self, base: nn.Module) -> dict[str, Tensor]:
        changes = [(graft.merged(base), weight) for graft, weight in self._weighted]
        plain = {name: getattr(base, name).float() for tensors, _ in changes for name in tensors}
        for tensors, weight in changes:
            for name, tensor in tensors.items():
                plain[name] = plain[name] + weight * (tensor - getattr(base, name).float())
        return plain

    def peft_tensors(self) -> dict[str, nn.Parameter]:
        raise AssertionError("a blend is merged, and not trained or saved")


def blend(adapters: Sequence[tuple[Adapter, float]]) -> Adapter:
    """One adapter that does the weighted sum of what `adapters` do. It can be run and merged.

    Raises:
        AdapterError: one of them changes more than the outputs of modules.
    """
    places: dict[str, list[tuple[ModuleGraft, float]]] = {}
    for adapter, weight in adapters:
        for place, graft in adapter.grafts.items():
            if not isinstance(graft, ModuleGraft) or adapter.virtual_tokens:
                what = f"an adapter of the method {adapter.method} cannot be merged, alone or with others"
                raise AdapterError(what, fix="serve base and adapter: graft chat --adapter")
            places.setdefault(place, []).append((graft, weight))
    grafts: dict[str, Graft] = {place: BlendGraft(several) for place, several in places.items()}
    return Adapter("blend", Section(), grafts)
