"""DoRA: m / |W + scaling * B A| for each row of a weight, times LoRA's (Liu et al. 2024, arXiv 2402.09353, eq. 5)."""

import torch
from torch import Tensor, nn

from graft.adapters.beginnings import Beginning
from graft.adapters.lora_graft import LoraGraft


class DoraGraft(LoraGraft):
    """LoRA with a trained magnitude (out,) of the rows of the weight. The rows' norm is a constant to the gradient, as
    section 4.3 of the paper proposes."""

    _base_squares: Tensor | None  # of the base's rows, which never change

    def __init__(self, lora: LoraGraft, layer: nn.Linear) -> None:
        start = Beginning(lora.lora_A.data, lora.lora_B.data)
        super().__init__(start, scaling=lora.scaling, dropout=lora.dropout, bias=lora.bias)
        self._base_squares = None
        self.magnitude = nn.Parameter(self._norms(layer).float())

    @property
    def in_one_step(self) -> bool:
        return False

    def turned(self, output: Tensor, base: nn.Linear) -> Tensor:
        factor = self.magnitude / self._norms(base).to(self.magnitude.device)
        bias = 0.0 if base.bias is None else base.bias.to(output.dtype)
        # a factor near 1 in half precision would be 1: it multiplies in float32
        return ((output - bias) * factor).to(output.dtype) + bias

    @torch.no_grad()
    def _norms(self, base: nn.Linear) -> Tensor:
        """|W + scaling * B A| of each row (out,), without the sum: |w|^2 + 2 s b (A w) + s^2 b (A A^T) b."""
        weight = base.weight  # once: a quantised base makes it anew each time
        weight = weight.to(torch.promote_types(weight.dtype, torch.float32))
        lora_A, lora_B = (factor.to(weight.device, weight.dtype) for factor in self.factors())
        squares = self._base_squares
        if squares is None or squares.device != weight.device:
            squares = self._base_squares = weight.square().sum(dim=1)
        crossed = ((weight @ lora_A.t()) * lora_B).sum(dim=1)
        own = ((lora_B @ (lora_A @ lora_A.t())) * lora_B).sum(dim=1)
        squares = squares + 2 * self.scaling * crossed + self.scaling**2 * own
        return squares.clamp(min=torch.finfo(squares.dtype).tiny).sqrt()  # a row of zeros, as pruned models have, stays

    def merged(self, base: nn.Module) -> dict[str, Tensor]:
        assert isinstance(base, nn.Linear)
        factor = self.magnitude.detach().float() / self._norms(base).float()
        merged = super().merged(base)
        return {**merged, "weight": merged["weight"] * factor[:, None]}

    def peft_tensors(self) -> dict[str, nn.Parameter]:
        return {**super().peft_tensors(), "lora_magnitude_vector": self.magnitude}
