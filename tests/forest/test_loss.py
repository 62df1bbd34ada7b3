"""The edge loss against autograd's own cross-entropy, for every kind of head."""

import pytest
import torch
from torch import Tensor

from graft.forest import Head, backward_edge_loss, edge_losses
from graft.records import Edges, edges_of

TOKENS, HIDDEN, VOCABULARY = 9, 6, 11
# one source with several edges, one target twice, a source that stands before one already named, odd weights
EDGES = edges_of([(4, 3, 1.0), (4, 5, 0.25), (0, 3, 3.0), (8, 10, 1.0), (2, 0, 1.0), (4, 7, 2.0), (7, 7, 0.5)])
HEADS = {"plain": {}, "scaled": {"scale": 0.3}, "capped": {"softcap": 1.5}, "both": {"scale": 2.5, "softcap": 1.5}}


def parts(kind: str, dtype: torch.dtype = torch.float64) -> tuple[Head, Tensor]:
    torch.manual_seed(3)
    return Head(torch.randn(VOCABULARY, HIDDEN, dtype=dtype), **HEADS[kind]), torch.randn(TOKENS, HIDDEN, dtype=dtype)


def expected(head: Head, hidden: Tensor, edges: Edges) -> Tensor:
    """Every edge's loss with a graph, by the formula."""
    logits = hidden[edges.sources] @ head.weight.t() * head.scale
    if head.softcap is not None:
        logits = head.softcap * torch.tanh(logits / head.softcap)
    return torch.nn.functional.cross_entropy(logits, edges.targets, reduction="none")


@pytest.mark.parametrize("kind", HEADS)
@pytest.mark.parametrize("logits_at_a_time", [1, 3 * VOCABULARY, 10_000])
@pytest.mark.parametrize("visited_at_a_time", [1, 2 * VOCABULARY, 10_000])
def test_loss_and_gradient(
    kind: str, logits_at_a_time: int, visited_at_a_time: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("graft.forest.loss.LOGITS", {"cpu": logits_at_a_time, "cuda": logits_at_a_time})
    monkeypatch.setattr("graft.forest.loss.CACHED", visited_at_a_time)
    head, states = parts(kind)
    hidden = states.clone().requires_grad_()
    reference = states.clone().requires_grad_()
    weighted = (expected(head, reference, EDGES) * EDGES.weights).sum()
    weighted.backward()
    assert backward_edge_loss(head, hidden * 1.0, EDGES) == pytest.approx(weighted.item(), rel=1e-12)
    torch.testing.assert_close(hidden.grad, reference.grad, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("kind", HEADS)
def test_scoring_gives_every_edge_its_loss_in_order(kind: str) -> None:
    head, hidden = parts(kind)
    torch.testing.assert_close(edge_losses(head, hidden, EDGES), expected(head, hidden, EDGES))


@pytest.mark.parametrize("kind", HEADS)
def test_the_head_gives_the_logits_that_the_loss_is_of(kind: str) -> None:
    head, hidden = parts(kind)
    losses = torch.nn.functional.cross_entropy(head(hidden)[EDGES.sources], EDGES.targets, reduction="none")
    torch.testing.assert_close(edge_losses(head, hidden, EDGES), losses)


def test_low_precision_is_summed_in_float32() -> None:
    head, states = parts("plain", torch.bfloat16)
    exact = expected(Head(head.weight.double()), states.double(), EDGES)
    torch.testing.assert_close(edge_losses(head, states, EDGES), exact, rtol=0.02, atol=0.02)


def test_extreme_logits_stay_finite() -> None:
    head, states = parts("plain")
    hidden = (states * 1e4).requires_grad_()
    assert backward_edge_loss(head, hidden * 1.0, EDGES) < float("inf")
    assert hidden.grad is not None
    assert hidden.grad.isfinite().all()


def test_no_edge_is_no_loss() -> None:
    head, states = parts("plain")
    assert backward_edge_loss(head, states.requires_grad_() * 1.0, edges_of([])) == 0.0
    assert len(edge_losses(head, states.detach(), edges_of([]))) == 0
