"""Which layers of a model a setting means, and how to say so in few words."""

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import cast

from torch import Tensor, nn
from transformers import PreTrainedModel

from graft.adapters.grafted import GraftedModule
from graft.adapters.linear import GraftedLinear
from graft.errors import AdapterError, nearest


def linear_layers(model: PreTrainedModel) -> dict[str, nn.Linear]:
    """Every linear layer but the output head, wrapped or not, by name, in the model's order."""
    head = plain(model.get_output_embeddings())
    layers: dict[str, nn.Linear] = {}
    for name, module in _base_modules(model):
        if isinstance(module, GraftedLinear):
            layers[name] = module.base
        elif isinstance(module, nn.Linear) and module is not head and not _inside(name, layers):
            layers[name] = module
    return layers


def _base_modules(model: PreTrainedModel) -> Iterator[tuple[str, nn.Module]]:
    """The modules of the base and what wraps them, by name; not those of adapters."""
    return ((name, module) for name, module in model.named_modules() if ".grafts." not in f"{name}.")


def plain(module: nn.Module) -> nn.Module:
    """What is wrapped, if it is."""
    return cast(nn.Module, module.base) if _is_wrapped(module) else module


def _is_wrapped(module: nn.Module) -> bool:
    return isinstance(module, GraftedLinear | GraftedModule)


def attention_layers(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The attention of each layer by name, lowest first."""
    found = {name: module for name, module in _base_modules(model) if name.endswith(".self_attn")}
    assert len(found) == model.config.num_hidden_layers, "every family calls its attention self_attn"
    return found


def embeddings_name(model: PreTrainedModel) -> str:
    table = model.get_input_embeddings()
    return next(str(name) for name, module in model.named_modules() if module is table)


def norms(model: PreTrainedModel) -> dict[str, nn.Module]:
    """The norms of the stream, wrapped or not, by name; not those of queries and keys."""
    size = (model.config.hidden_size,)
    found = {}
    for name, module in _base_modules(model):
        weight = getattr(plain(module), "weight", None)
        if name.endswith("norm") and ".self_attn." not in name and isinstance(weight, Tensor) and weight.shape == size:
            found[name] = plain(module)
    return found


def stream_dim(model: PreTrainedModel, name: str) -> int:
    """Where the tokens stand in what the module `name` reads: (1, T, ...), but for the norms of queries and keys that
    read (1, heads, T, head size), as those of Gemma 3 do."""
    heads_first = model.config.model_type == "gemma3_text"
    return 2 if heads_first and name.endswith((".q_norm", ".k_norm")) else 1


def weighted_modules(model: PreTrainedModel) -> dict[str, nn.Module]:
    """Every module with weights of its own, wrapped or not, by name."""
    wrapped = {name: plain(module) for name, module in _base_modules(model) if _is_wrapped(module)}
    bare = {
        name: module for name, module in _base_modules(model) if _has_weights(module) and not _inside(name, wrapped)
    }
    return {**wrapped, **bare}


def _has_weights(module: nn.Module) -> bool:
    """A quantised linear layer has no parameters."""
    return isinstance(module, nn.Linear) or bool(dict(module.named_parameters(recurse=False)))


def head_size(model: PreTrainedModel) -> int:
    config = model.config
    size: int = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return size


def named_modules(model: PreTrainedModel, ends: Sequence[str], *, setting: str) -> dict[str, nn.Module]:
    """The modules with weights whose names end with one of `ends`, as PEFT reads them: `norm` is every norm.

    Raises:
        AdapterError: one of them means no module, or one without weights of its own.
    """
    found: dict[str, nn.Module] = {}
    weighted = weighted_modules(model) if ends else {}
    for end in ends:
        meant = {name: module for name, module in weighted.items() if name.endswith(end)}
        if not meant:
            leaves = sorted({name.rsplit(".", 1)[-1] for name in weighted})
            raise AdapterError(f"{setting}: no module with weights is called `{end}`", fix=f"of {', '.join(leaves)}")
        found.update(meant)
    return found


def target_layers(
    model: PreTrainedModel, target_modules: str | Sequence[str], *, setting: str = "lora.target_modules"
) -> dict[str, nn.Linear]:
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
                f"{setting}: no linear layer is called `{target}`",
                fix=f"{hint}There are {', '.join(existing)}; or all-linear",
            )
    if not target_modules:
        raise AdapterError(f"{setting} is empty", fix=f"there are {', '.join(existing)}; or all-linear")
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
