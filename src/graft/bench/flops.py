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
        head: of the output head, V x hidden.
        shapes: (out, in) of each of the base's linear layers, how many there are, and whether it is the head.
    """

    frozen: int
    adapter: int
    head: int
    shapes: tuple[tuple[int, int, int, bool], ...]


def weights_of(model: PreTrainedModel, adapter: Adapter) -> Weights:
    """Count the matrices of `model`, to which `adapter` is to be grafted."""
    head = model.get_output_embeddings()
    assert isinstance(head, nn.Linear)
    layers = [layer for layer in model.modules() if isinstance(layer, nn.Linear) and layer is not head]
    counted = Counter((layer.out_features, layer.in_features) for layer in layers)
    shapes = [(*shape, count, False) for shape, count in counted.items()]
    return Weights(
        frozen=sum(layer.weight.numel() for layer in layers),
        adapter=adapter.trained_parameters,
        head=head.weight.numel(),
        shapes=(*shapes, (head.out_features, head.in_features, 1, True)),
    )


def needed_flops(weights: Weights, forest: Forest) -> int:
    """Floating-point operations that one forward and backward pass over `forest` needs in its linear layers.

    A product with a matrix takes 2 operations for each parameter and token. A frozen matrix is multiplied by twice,
    forward and for the input's gradient (4); an adapter's a third time, for its own gradient (6); the head, frozen as
    well, for edges only (4). Attention is left out, and so is what is computed again to save memory. The input's
    gradient of the layers that read the embeddings is counted although nobody needs it: 0.4% of a 7B Llama's work.
    """
    return len(forest) * (4 * weights.frozen + 6 * weights.adapter) + len(forest.edges) * 4 * weights.head
