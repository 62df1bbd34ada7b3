"""The optimizers by name, the groups of an adapter's parameters, and an optimizer's state as tensors."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from graft.config import TrainConfig
from graft.errors import ConfigError, RunError

NamedParameters = Sequence[tuple[str, nn.Parameter]]


@dataclass(frozen=True)
class Kind:
    """How one optimizer is built.

    Args:
        module: what has it: PyTorch, or bitsandbytes, which is an extra.
        name: of its class there.
        options: where the module's defaults do not do.
        paged: its state is memory that a CUDA device and the host share, moved to where it is used. On a CPU
            bitsandbytes would quietly build the optimizer without pages.
    """

    module: str
    name: str
    options: Mapping[str, Any] = field(default_factory=dict)
    paged: bool = False

    @property
    def library(self) -> str:
        return self.module.partition(".")[0]

    def works_on(self, device: torch.device) -> bool:
        return find_spec(self.library) is not None and not (self.paged and device.type != "cuda")


OPTIMIZERS = {
    # Loshchilov and Hutter 2019, arXiv 1711.05101
    "adamw": Kind("torch.optim", "AdamW", {"fused": True}),
    # its averages in 8 bits, of parameters of 4096 numbers and more (Dettmers et al. 2021, arXiv 2110.02861)
    "adamw_8bit": Kind("bitsandbytes.optim", "AdamW8bit"),
    # Dettmers et al. 2023, arXiv 2305.14314, section 3
    "paged_adamw": Kind("bitsandbytes.optim", "PagedAdamW", paged=True),
    "paged_adamw_8bit": Kind("bitsandbytes.optim", "PagedAdamW8bit", paged=True),
    # Shazeer and Stern 2018, arXiv 1804.04235; docs/decisions/0012 has the reason of these two
    "adafactor": Kind("torch.optim", "Adafactor", {"eps": (1e-15, 1.0)}),
    # Chen et al. 2023, arXiv 2302.06675, algorithm 2
    "lion": Kind("bitsandbytes.optim", "Lion"),
}


def check_optimizer(name: str, device: torch.device) -> None:
    """Raise a ConfigError if the optimizer `name` does not work for parameters on `device`."""
    kind = OPTIMIZERS[name]
    if kind.works_on(device):
        return
    others = f"set train.optimizer to {', '.join(name for name, kind in OPTIMIZERS.items() if kind.works_on(device))}"
    if find_spec(kind.library) is None:
        what = f"train.optimizer {name} is of {kind.library}, which is not installed"
        raise ConfigError(what, fix=f"pip install 'graft-llm[quant]', or {others}")
    what = f"train.optimizer {name} moves its state between a CUDA device and the host, and the model is on the CPU"
    raise ConfigError(what, fix=others)


def build_optimizer(parameters: NamedParameters, settings: TrainConfig) -> Optimizer:
    """The optimizer that `settings` name, over groups whose rate is the step's times their `lr_factor`.

    Raises:
        ConfigError: it does not work where the parameters are, or LoRA+ finds no lora_B.
    """
    check_optimizer(settings.optimizer, parameters[0][1].device)
    kind = OPTIMIZERS[settings.optimizer]
    build = getattr(import_module(kind.module), kind.name)
    optimizer: Optimizer = build(_groups(parameters, settings), lr=settings.learning_rate, **kind.options)
    return optimizer


def _groups(parameters: NamedParameters, settings: TrainConfig) -> list[dict[str, Any]]:
    """Parameters that share weight decay and factor of the rate.

    Whatever has two dimensions or more decays (LoRA's factors, prompts (n, hidden)); gates, magnitudes, biases and
    norms, which have one or none, do not. lora_B takes `lora_plus_ratio` times the rate (Hayou et al. 2024,
    arXiv 2402.12354).
    """
    ratio = settings.lora_plus_ratio
    if ratio != 1 and not any(_is_lora_b(name) for name, _ in parameters):
        raise ConfigError(f"train.lora_plus_ratio {ratio:g} is for lora_B, and the adapter has none", fix="leave it 1")
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters:
        decay = settings.weight_decay if _is_matrix(name, parameter) else 0.0
        groups.setdefault((decay, ratio if _is_lora_b(name) else 1.0), []).append(parameter)
    return [
        {"params": members, "weight_decay": decay, "lr_factor": factor} for (decay, factor), members in groups.items()
    ]


def _is_lora_b(name: str) -> bool:
    return "lora_B" in name.split(".")


def optimizer_tensors(optimizer: Optimizer, parameters: NamedParameters) -> dict[str, Tensor]:
    """The optimizer's state under the parameters' names, `NAME.exp_avg`; a plain number is a tensor without dimensions.

    A parameter that has had no gradient yet has no state.
    """
    return {
        f"{name}.{key}": _as_tensor(value)
        for name, parameter in parameters
        for key, value in optimizer.state.get(parameter, {}).items()
    }


def _as_tensor(value: Tensor | float) -> Tensor:
    if isinstance(value, Tensor):
        # a copy: bitsandbytes has the table of its 8-bit values once for all parameters, and a file has nothing twice
        return value.detach().cpu().contiguous().clone()
    return torch.tensor(value, dtype=torch.float64 if isinstance(value, float) else torch.int64)


def restore_optimizer(optimizer: Optimizer, parameters: NamedParameters, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` gave. The parameters' values are to be put back after it.

    Raises:
        RunError: the tensors are not those of these parameters.
    """
    with_state = {name.rpartition(".")[0] for name in tensors}
    _lay_state_out(optimizer, [parameter for name, parameter in parameters if name in with_state])
    expected = {name: (tensor.shape, tensor.dtype) for name, tensor in optimizer_tensors(optimizer, parameters).items()}
    found = {name: (tensor.shape, tensor.dtype) for name, tensor in tensors.items()}
    if expected != found:
        odd = ", ".join(sorted({name for name, _ in expected.items() ^ found.items()})[:5])
        raise RunError(f"the optimizer's state is of other parameters: {odd}", fix="resume with the settings it had")
    for name, parameter in parameters:
        state = optimizer.state.get(parameter, {})
        for key, value in state.items():
            saved = tensors[f"{name}.{key}"]
            if isinstance(value, Tensor):
                value.copy_(saved)
            else:
                state[key] = type(value)(saved.item())


def _lay_state_out(optimizer: Optimizer, parameters: Sequence[nn.Parameter]) -> None:
    """Have the optimizer make its state for `parameters` and no others, by a step at the rate 0.

    Only so is everything where the library keeps it: in pages, on the device or on the host.
    """
    optimizer.state.clear()
    optimizer.zero_grad()
    for parameter in parameters:
        parameter.grad = torch.zeros_like(parameter)
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        group["lr"] = 0.0
    optimizer.step()
    for group, rate in zip(optimizer.param_groups, rates, strict=True):
        group["lr"] = rate
    optimizer.zero_grad()


def _is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Of two dimensions, be one of them 1 as in LoRA of rank 1; IA3's are vectors of the shape (out, 1) or (1, in)."""
    return parameter.ndim >= 2 and not name.endswith(".ia3_l")
