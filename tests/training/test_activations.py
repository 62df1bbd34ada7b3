import pytest
import torch

from graft.forest import forest_hidden_states, plant
from graft.training.activations import saved_activations
from tests.families import build, samples


def kept_bytes(recompute: int) -> int:
    """What autograd holds after a forward pass within the block."""
    model = build("llama-gqa")
    model.requires_grad_(True)
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        saved_activations(model, recompute=recompute, offload=False),
    ):
        hidden = forest_hidden_states(model, plant(samples(20)))
    assert hidden.requires_grad
    return sum(kept.values())


def test_layers_that_run_again_keep_less() -> None:
    none, every, second = kept_bytes(0), kept_bytes(1), kept_bytes(2)
    assert every < second < none


def test_the_model_is_as_before_behind_the_block() -> None:
    model = build("llama-gqa")
    with saved_activations(model, recompute=1, offload=False):
        assert all("forward" in vars(layer) for layer in model.model.layers)
    assert not any("forward" in vars(layer) for layer in model.model.layers)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="activations are offloaded from a CUDA device; there is none")
def test_offloaded_activations_give_the_same_gradient() -> None:
    gradients = []
    for offload in (False, True):
        model = build("llama-gqa", dtype=torch.float32).cuda().requires_grad_(True)
        with saved_activations(model, recompute=0, offload=offload):
            forest_hidden_states(model, plant(samples(20))).sum().backward()
        gradients.append([parameter.grad for parameter in model.model.parameters()])
    assert all(torch.equal(one, other) for one, other in zip(*gradients, strict=True))
