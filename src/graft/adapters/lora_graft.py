"""LoRA: W x + scaling * B A x with A (r, in) and B (out, r) trained and W frozen (Hu et al. 2021, arXiv 2106.09685)."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graft.adapters.beginnings import Beginning
from graft.adapters.contract import ModuleGraft
from graft.adapters.low_rank import LowRank
from graft.adapters.own import with_bias


class LoraGraft(ModuleGraft):
    """The two low-rank matrices of one layer, and a bias of its own where biases train.

    Args:
        start: the product that is taken off again, so that an adapter that begins with one begins as the base.
    """

    off_A: Tensor | None
    off_B: Tensor | None

    def __init__(self, start: Beginning, *, scaling: float, dropout: float, bias: Tensor | None = None) -> None:
        super().__init__()
        self.lora_A = nn.Parameter(start.lora_A)
        self.lora_B = nn.Parameter(start.lora_B)
        self.register_buffer("off_A", start.off_A, persistent=False)
        self.register_buffer("off_B", None if start.off_A is None else -start.lora_B.clone(), persistent=False)
        self.bias = None if bias is None else nn.Parameter(bias)
        self.scaling = scaling
        self.dropout = dropout

    def factors(self) -> tuple[Tensor, Tensor]:
        """A (r, in) and B (out, r) of all that is added; r is twice the trained rank where a product is taken off."""
        if self.off_A is None or self.off_B is None:
            return self.lora_A, self.lora_B
        off_A, off_B = self.off_A.to(self.lora_A.dtype), self.off_B.to(self.lora_B.dtype)
        return torch.cat([self.lora_A, off_A]), torch.cat([self.lora_B, off_B], dim=1)

    def low_rank(self) -> LowRank | None:
        return None if self.training and self.dropout else LowRank(*self.factors(), self.scaling)

    @property
    def in_one_step(self) -> bool:
        return self.bias is None and not (self.training and self.dropout)

    def forward(self, states: Tensor, output: Tensor | None, base: nn.Module) -> Tensor:
        assert output is not None
        assert isinstance(base, nn.Linear)
        if self.training and self.dropout:
            lora_A, lora_B = self.factors()
            dropped = F.dropout(states.to(lora_A.dtype), self.dropout, self.training)
            output = output + (F.linear(F.linear(dropped, lora_A), lora_B) * self.scaling).to(output.dtype)
        output = self.turned(output, base)
        return output if self.bias is None else with_bias(output, base, self.bias)

    def turned(self, output: Tensor, base: nn.Linear) -> Tensor:
        """The output with the product added, as the method makes it; LoRA leaves it."""
        return output

    def weight_with(self, weight: Tensor) -> Tensor:
        """The weight (out, in) in float32 that answers alike."""
        lora_A, lora_B = (factor.detach().float() for factor in self.factors())
        return weight.float() + self.scaling * (lora_B @ lora_A)

    def merged(self, base: nn.Module) -> dict[str, Tensor]:
        assert isinstance(base, nn.Linear)
        merged = {"weight": self.weight_with(base.weight)}
        return merged if self.bias is None else {**merged, "bias": self.bias.detach().float()}

    def peft_tensors(self) -> dict[str, nn.Parameter]:
        tensors = {"lora_A.weight": self.lora_A, "lora_B.weight": self.lora_B}
        return tensors if self.bias is None else {**tensors, "base_layer.bias": self.bias}

    def file_tensors(self) -> dict[str, Tensor]:
        lora_A, lora_B = self.factors()  # a product that is taken off is part of a plain LoRA of twice the rank
        return {**self.peft_tensors(), "lora_A.weight": lora_A, "lora_B.weight": lora_B}

    def fill(self, tensors: Mapping[str, Tensor]) -> None:
        if self.off_A is not None and self.off_B is not None:
            r = len(self.lora_A)
            lora_A, lora_B = tensors["lora_A.weight"], tensors["lora_B.weight"]
            self.off_A.copy_(lora_A[r:])
            self.off_B.copy_(lora_B[:, r:])
            tensors = {**tensors, "lora_A.weight": lora_A[:r], "lora_B.weight": lora_B[:, :r]}
        super().fill(tensors)
