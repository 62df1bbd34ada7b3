"""How much a step has to compute, and what that is of the machine's limit."""

from collections import Counter
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from graft.adapters import Adapter
from graft.records import Forest


@dataclass(frozen=True)
class Weights:
    """Parameters of the matrices that a step multiplies by.

    Args:
        frozen: of the base's linear layers, the head apart.
        adapter: of the adapter.
        last_frozen, last_adapter: of these, what the last layer's MLP has, which runs for edge sources alone.
        head: of the output head, V x hidden.
        shapes: (out, in) of each of the base's linear layers, how many there are, and whether it is the head.
    """

    frozen: int
    adapter: int
    last_frozen: int
    last_adapter: int
    head: int
    shapes: tuple[tuple[int, int, int, bool], ...]


def weights_of(model: PreTrainedModel, adapter: Adapter) -> Weights:
    """Count the matrices of `model`, to which `adapter` is to be grafted."""
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Linear)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer is not head]
    last_mlp = f"{model.base_model_prefix}.layers.{model.config.num_hidden_layers - 1}.mlp."
    last = [m for name, m in model.named_modules() if isinstance(m, nn.Linear) and name.startswith(last_mlp)]
    counted = Counter((layer.out_features, layer.in_features) for layer in layers)
    shapes = [(*shape, count, False) for shape, count in counted.items()]
    return Weights(
        frozen=sum(layer.weight.numel() for layer in layers),
        adapter=adapter.trained_parameters,
        last_frozen=sum(layer.weight.numel() for layer in last),
        last_adapter=sum(p.numel() for name, p in adapter.named_parameters() if last_mlp in name),
        head=head.weight.numel(),
        shapes=(*shapes, (head.out_features, head.in_features, 1, True)),
    )


def needed_flops(weights: Weights, forest: Forest) -> int:
    """Floating-point operations that one forward and backward pass over `forest` needs in its linear layers.

    A product with a matrix takes 2 operations for each parameter and token. A frozen matrix is multiplied by twice,
    forward and for the input's gradient (4); an adapter's a third time, for its own gradient (6). The last layer's MLP
    and the head run for edge sources alone. Attention is left out, and so is what is computed again to save memory. The
    input's gradient of the layers that read the embeddings is counted although nobody needs it: 0.4% of a 7B Llama's.
    """
    sources = len(forest.edges.distinct_sources)
    everywhere = 4 * (weights.frozen - weights.last_frozen) + 6 * (weights.adapter - weights.last_adapter)
    at_sources = 4 * (weights.last_frozen + weights.head) + 6 * weights.last_adapter
    return len(forest) * everywhere + sources * at_sources
