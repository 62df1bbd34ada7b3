"""Gated MLPs, down(act(gate(x)) * up(x)), that keep gate and up for the backward pass and make their product anew.

Autograd would keep act(gate) and the product as well: half of what an MLP leaves, and a third of what a layer does.
"""

from functools import partial

import torch
from torch import Tensor, nn

from graft.adapters.linear import GraftedLinear, Switch
from graft.records import Route

ELEMENTS = 2**23
"""Of a tensor that a CPU makes at a time: 32 MiB of float32. The C library maps larger ones anew each time."""

_LINEAR = ("gate_proj", "up_proj", "down_proj")


def keep_gate_and_up(module: nn.Module, switch: Switch) -> bool:
    """Give `module` a forward of its own if it is a gated MLP of wrapped layers, by the names that families share."""
    gated = all(isinstance(getattr(module, name, None), GraftedLinear) for name in _LINEAR)
    if gated := gated and hasattr(module, "act_fn"):
        module.forward = partial(_forward, module, switch)
    return gated


def _forward(mlp: nn.Module, switch: Switch, states: Tensor) -> Tensor:
    """The whole stream at once, or on a CPU in as many pieces as it takes."""
    gate, up, down, act = (mlp.get_submodule(name) for name in (*_LINEAR, "act_fn"))

    def run(piece: Tensor) -> Tensor:
        output: Tensor = down(gate(piece), up(piece), made=lambda gate, up: act(gate) * up)
        return output

    assert isinstance(gate, GraftedLinear)
    tokens, size = states.shape[-2], max(1, ELEMENTS // gate.base.out_features)
    if tokens <= size or states.device.type != "cpu":
        return run(states)
    pieces, whole = [], switch.routes
    for start in range(0, tokens, size):
        stop = min(start + size, tokens)
        with switch.turned_to([Route(r.slot, *_clip(r, start, stop)) for r in whole]):
            pieces.append(run(states[..., start:stop, :]))
    return torch.cat(pieces, dim=-2)


def _clip(route: Route, start: int, stop: int) -> tuple[int, int]:
    """Where `route` begins and ends in the piece [start, stop)."""
    return min(max(route.start, start), stop) - start, min(max(route.stop, start), stop) - start
