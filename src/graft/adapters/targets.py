"""Which layers of a model a setting means, and how to say so in few words."""

from collections.abc import Collection, Iterable, Sequence

from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.adapters.linear import GraftedLinear
from graft.errors import AdapterError, nearest


def linear_layers(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """Every linear layer but the output head, wrapped or not, by name, in the model's order."""
    head = model.get_output_embeddings()
    layers: dict[str, nn.Linear] = {}
    for name, module in model.named_modules():
        if isinstance(module, GraftedLinear):
            layers[name] = module.base
        elif isinstance(module, nn.Linear) and module is not head and not _inside(name, layers):
            layers[name] = module
    return layers


def target_layers(model: PreTrainedModel, target_modules: str | Sequence[str]) -> dict[str, nn.Linear]:
    """The layers that `target_modules` means: every one, or those whose name is or ends with a given one.

    Raises:
        AdapterError: a name means no layer; those that exist are listed.
    """
    layers = linear_layers(model)
    if isinstance(target_modules, str):
        return layers
    existing = list(dict.fromkeys(name.rsplit(".", 1)[-1] for name in layers))
    for target in target_modules:
        if not any(_means(target, name) for name in layers):
            alike = nearest(target, existing)
            hint = f"did you mean `{alike}`? " if alike else ""
            raise AdapterError(
                f"lora.target_modules: no linear layer is called `{target}`",
                fix=f"{hint}There are {', '.join(existing)}; or all-linear",
            )
    if not target_modules:
        raise AdapterError("lora.target_modules is empty", fix=f"there are {', '.join(existing)}; or all-linear")
    return {name: layer for name, layer in layers.items() if any(_means(target, name) for target in target_modules)}


def biased_layers(model: PreTrainedModel) -> dict[str, Tensor]:
    """The biases of the linear layers.

    Raises:
        AdapterError: a module of another kind has a bias, which would silently not train.
    """
    layers = linear_layers(model)
    for name, _ in model.named_parameters():
        owner = name.removesuffix(".bias").removesuffix(".base")
        if name.endswith(".bias") and ".grafts." not in name and owner not in layers:
            raise AdapterError(f"lora.bias: {owner} is no linear layer and has a bias", fix="set lora.bias to none")
    return {name: layer.bias for name, layer in layers.items() if layer.bias is not None}


def shortest_names(targets: Iterable[str], layers: Collection[str]) -> list[str]:
    """The ends of names, as PEFT wants them, that mean `targets` and no other of `layers`."""
    wanted = set(targets)
    ends = {name.rsplit(".", 1)[-1] for name in wanted}
    meant = {name for name in layers if any(_means(end, name) for end in ends)}
    return sorted(ends if meant == wanted else wanted)


def _means(target: str, name: str) -> bool:
    return name == target or name.endswith(f".{target}")


def _inside(name: str, wrapped: Iterable[str]) -> bool:
    return any(name.startswith(f"{outer}.") for outer in wrapped)
