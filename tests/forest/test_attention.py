"""Every back end against explicit attention: a T x T mask, a softmax, and nothing left out.

T = tokens in the stream, H = query heads, K = key/value heads, D = head size.
"""

import random
import shutil

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention.flex_attention import flex_attention

from graft.errors import ModelError
from graft.forest import BACK_ENDS, Scores, forest_hidden_states, hidden_states, plant
from graft.forest.back_ends import choose
from graft.forest.flex import BLOCK, HEAD_SIZES, block_mask, runs_flex
from graft.records import Forest, Segment, edges_of
from tests.families import WINDOW, build, samples

SIZE = 16
HEADS = {"mha": (4, 4), "gqa": (4, 2), "mqa": (4, 1), "gqa-3": (6, 2)}
SCORES = {
    "plain": Scores(0.3),
    "window": Scores(0.3, window=5),
    "itself": Scores(0.3, window=1),
    "cap": Scores(0.7, softcap=1.5),
    "both": Scores(0.7, window=7, softcap=1.5),
}
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device: flex attention trains on no CPU")


def tree(shape: list[tuple[int, int]]) -> Forest:
    """Segments depth first: of each, its length, and how far up the path of the one before it its parent stands."""
    segments: list[Segment] = []
    path: list[int] = []
    for length, up in shape:
        path = path[: max(0, len(path) - up)]
        parent = path[-1] if path else None
        depth = 0 if parent is None else segments[parent].depth + len(segments[parent])
        start = segments[-1].stop if segments else 0
        path.append(len(segments))
        segments.append(Segment(start, start + length, parent, depth, None))
    positions = torch.cat([torch.arange(s.depth, s.depth + len(s)) for s in segments])
    ends = tuple(segment.stop - 1 for segment in segments)
    return Forest(positions, positions, tuple(segments), edges_of([]), ends, len(positions), 0)


TREES = st.lists(st.tuples(st.integers(1, 14), st.integers(0, 3)), min_size=1, max_size=12).map(tree)


def grown(tokens: int, *, seed: int = 0) -> Forest:
    """A random tree of `tokens` tokens."""
    rng = random.Random(seed)
    shape: list[tuple[int, int]] = []
    while (left := tokens - sum(length for length, _ in shape)) > 0:
        shape.append((min(left, rng.randint(1, 60)), rng.randint(0, 3)))
    return tree(shape)


def who_sees_whom(forest: Forest, window: int | None) -> Tensor:
    """(T, T), true where the row's token sees the column's: the last `window` tokens of its path."""
    seen = torch.zeros(len(forest), len(forest), dtype=torch.bool)
    for sample, end in enumerate(forest.ends):
        trace = forest.trace(sample)
        last = next(segment for segment in forest.segments if segment.stop - 1 == end)
        for back in range(len(last)):
            path = trace[: len(trace) - back]
            seen[path[-1], path if window is None else path[-window:]] = True
    return seen


def states(heads: str, tokens: int, *, dtype: torch.dtype = torch.float64, device: str = "cpu") -> list[Tensor]:
    """Query, key and value as models hand them over: views of (1, T, heads * D)."""
    query_heads, key_heads = HEADS[heads]
    generator = torch.Generator().manual_seed(tokens)
    drawn = [torch.randn(1, tokens, n, SIZE, dtype=dtype, generator=generator) for n in (query_heads, *[key_heads] * 2)]
    return [states.to(device).transpose(1, 2) for states in drawn]


def explicit(forest: Forest, query: Tensor, key: Tensor, value: Tensor, scores: Scores) -> Tensor:
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    scored = query @ key.transpose(2, 3) * scores.scaling
    if scores.softcap is not None:
        scored = scores.softcap * torch.tanh(scored / scores.softcap)
    hidden = ~who_sees_whom(forest, scores.window).to(query.device)
    return scored.masked_fill(hidden, -torch.inf).softmax(dim=-1) @ value


def gradients(seen: Tensor, inputs: list[Tensor]) -> tuple[Tensor, ...]:
    weights = torch.randn(seen.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    return torch.autograd.grad((seen * weights.to(seen.device, seen.dtype)).sum(), inputs)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("name", BACK_ENDS)
def test_forward_is_that_of_explicit_attention(name: str, scores: str, heads: str) -> None:
    torch._dynamo.reset()  # flex attention keeps what it traced, and refuses to keep more than a few
    for tokens in (1, 200):
        forest, inputs = grown(tokens), states(heads, tokens)
        with torch.no_grad():
            seen = BACK_ENDS[name](forest).attend(0, *inputs, SCORES[scores])
        torch.testing.assert_close(seen, explicit(forest, *inputs, SCORES[scores]), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("scores", SCORES)
def test_gradients_are_those_of_explicit_attention(scores: str, heads: str) -> None:
    forest = grown(200)
    inputs = [tensor.requires_grad_() for tensor in states(heads, 200)]
    found = gradients(BACK_ENDS["segments"](forest).attend(0, *inputs, SCORES[scores]), inputs)
    expected = gradients(explicit(forest, *inputs, SCORES[scores]), inputs)
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)


@given(TREES, st.none() | st.integers(1, 20), st.none() | st.just(1.5), st.integers(1, 9))
def test_random_trees_in_blocks_of_any_size(forest: Forest, window: int | None, cap: float | None, block: int) -> None:
    scores = Scores(0.4, window, cap)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graft.forest.segments.BLOCK", block)
        inputs = [tensor.requires_grad_() for tensor in states("gqa", len(forest))]
        seen = BACK_ENDS["segments"](forest).attend(0, *inputs, scores)
    expected = explicit(forest, *inputs, scores)
    torch.testing.assert_close(seen, expected, rtol=1e-10, atol=1e-10)
    for mine, other in zip(gradients(seen, inputs), gradients(expected, inputs), strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-9, atol=1e-9)


@given(TREES, st.none() | st.integers(1, 20), st.integers(1, 9))
@example(tree([(9, 0)]), 3, 2)  # a square whose last query misses the first key only
@example(tree([(4, 0), (2, 0), (4, 1)]), None, 2)  # a square that ends with a subtree
def test_squares_left_out_hold_nothing_and_whole_ones_everything(
    forest: Forest, window: int | None, block: int
) -> None:
    """The kernels look into the squares that the mask lists and no others, and not at the mask in whole ones."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("graft.forest.flex.BLOCK", block)
        mask = block_mask(forest, window, torch.device("cpu"))
    length = mask.shape[-1]
    assert length % block == 0
    assert length >= len(forest)
    expected = torch.eye(length, dtype=torch.bool)
    expected[: len(forest), : len(forest)] = who_sees_whom(forest, window)
    places = torch.arange(length)
    assert torch.equal(mask.mask_mod(None, None, places[:, None], places), expected)
    squares = expected.unflatten(0, (-1, block)).unflatten(2, (-1, block)).transpose(1, 2).flatten(2)
    for row, square in enumerate(squares):
        partial = mask.kv_indices[0, 0, row, : mask.kv_num_blocks[0, 0, row]].tolist()
        whole = mask.full_kv_indices[0, 0, row, : mask.full_kv_num_blocks[0, 0, row]].tolist()
        assert not set(partial) & set(whole)
        assert {column for column, seen in enumerate(square) if seen.any()} <= {*partial, *whole}
        assert square[whole].all()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="needs g++: PyTorch compiles for CPUs with it")
def test_compiled_for_a_cpu_it_looks_into_listed_squares_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a GPU, but without gradients: the nearest that a machine without one comes to the kernel."""
    torch._dynamo.reset()
    compiled = torch.compile(flex_attention, fullgraph=True)
    monkeypatch.setattr("graft.forest.flex._kernel", lambda device: compiled)
    for tokens in (1, 300, 700, 512):
        forest, inputs = grown(tokens), states("gqa", tokens, dtype=torch.float32)
        with torch.no_grad():
            seen = BACK_ENDS["flex"](forest).attend(0, *inputs, SCORES["both"])
        torch.testing.assert_close(seen, explicit(forest, *inputs, SCORES["both"]), rtol=1e-4, atol=1e-5)


def test_flex_runs_where_it_can_be_compiled() -> None:
    assert not runs_flex(torch.device("cpu"), 64)
    assert choose(build("qwen3")) == "segments"
    assert 16 in HEAD_SIZES
    assert 256 in HEAD_SIZES
    assert 8 not in HEAD_SIZES


@cuda
@pytest.mark.parametrize("heads", HEADS)
@pytest.mark.parametrize("scores", SCORES)
@pytest.mark.parametrize("name", BACK_ENDS)
def test_on_cuda_it_is_explicit_attention_too(name: str, scores: str, heads: str) -> None:
    """Forward and backward, for streams of one block, of several, and of other lengths than the first."""
    torch._dynamo.reset()
    for tokens in (1, BLOCK, 3 * BLOCK + 5, 700):
        forest = grown(tokens)
        inputs = [tensor.requires_grad_() for tensor in states(heads, tokens, dtype=torch.float32, device="cuda")]
        seen = BACK_ENDS[name](forest).attend(0, *inputs, SCORES[scores])
        expected = explicit(forest, *inputs, SCORES[scores])
        torch.testing.assert_close(seen, expected, rtol=1e-3, atol=1e-3)
        for mine, other in zip(gradients(seen, inputs), gradients(expected, inputs), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-2, atol=1e-2)


@cuda
@pytest.mark.parametrize("heads", ["gqa", "gqa-3"])
def test_on_cuda_in_bfloat16(heads: str) -> None:
    torch._dynamo.reset()
    forest = grown(700)
    inputs = states(heads, 700, dtype=torch.bfloat16, device="cuda")
    seen = BACK_ENDS["flex"](forest).attend(0, *inputs, SCORES["both"])
    expected = explicit(forest, *[tensor.float() for tensor in inputs], SCORES["both"])
    torch.testing.assert_close(seen.float(), expected, rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"s_aux": torch.zeros(4)}, "s_aux"),
        ({"chunk_size": 4}, "chunk_size"),
        ({"is_causal": False}, "is_causal"),
        ({"dropout": 0.1}, "dropout"),
        ({"sliding_window": WINDOW + 1}, f"a mask of window {WINDOW}, not {WINDOW + 1}"),
    ],
)
def test_what_a_forest_does_not_do_is_refused(
    fields: dict[str, object], named: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Left out, it would make the answer a wrong one without a word."""
    model = build("mistral-window")
    layer = model.model.layers[0].self_attn
    forward = layer.forward

    def asking(*args: object, **keywords: object) -> object:
        if "sliding_window" in fields:
            layer.config.sliding_window = fields["sliding_window"]
            return forward(*args, **keywords)
        if "dropout" in fields:
            layer.training, layer.attention_dropout = True, fields["dropout"]
            return forward(*args, **keywords)
        return forward(*args, **keywords, **fields)

    monkeypatch.setattr(layer, "forward", asking)
    with pytest.raises(ModelError, match=named) as error:
        forest_hidden_states(model, plant(samples(2)))
    assert "supported family" in error.value.fix


def test_attention_that_looks_ahead_is_refused() -> None:
    model = build("mistral-window")
    model.model.layers[1].self_attn.is_causal = False
    forest = plant(samples(2))
    with pytest.raises(ModelError, match="is_causal=False"):
        hidden_states(model, forest.ids, forest.positions, BACK_ENDS["segments"](forest))
