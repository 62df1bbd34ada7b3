"""Gated MLPs, down(act(gate(x)) * up(x)), that keep gate and up for the backward pass and make their product anew.

Autograd would keep act(gate) and the product as well: half of what an MLP leaves, and a third of what a layer does.
"""

from functools import partial

from torch import Tensor, nn

from graft.adapters.linear import GraftedLinear

_LINEAR = ("gate_proj", "up_proj", "down_proj")


def keep_gate_and_up(module: nn.Module) -> bool:
    """Give `module` a forward of its own if it is a gated MLP of wrapped layers, by the names that families share."""
    gated = all(isinstance(getattr(module, name, None), GraftedLinear) for name in _LINEAR)
    if gated := gated and hasattr(module, "act_fn"):
        module.forward = partial(_forward, module)
    return gated


def _forward(mlp: nn.Module, states: Tensor) -> Tensor:
    gate, up, down, act = (mlp.get_submodule(name) for name in (*_LINEAR, "act_fn"))
    output: Tensor = down(gate(states), up(states), made=lambda gate, up: act(gate) * up)
    return output
