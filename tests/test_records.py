import pytest
import torch

from graft.records import Forest, Route, Segment, Source, TokenSequence, edges_of, merge_routes


def forest(segments: list[Segment], ends: tuple[int, ...]) -> Forest:
    tokens = segments[-1].stop
    positions = [s.depth + i for s in segments for i in range(len(s))]
    return Forest(
        ids=torch.arange(tokens),
        positions=torch.tensor(positions),
        segments=tuple(segments),
        edges=edges_of([]),
        ends=ends,
        logical_tokens=tokens,
        trained_tokens=0,
    )


# 0 1 2 ─┬─ 3 4 ─┬─ 5
#        │       └─ 6 7
#        └─ 8
# 9 10
TREE = forest(
    [
        Segment(0, 3, None, 0, 0),
        Segment(3, 5, 0, 3, 0),
        Segment(5, 6, 1, 5, 0),
        Segment(6, 8, 1, 5, 0),
        Segment(8, 9, 0, 3, 0),
        Segment(9, 11, None, 0, 1),
    ],
    ends=(7, 8, 10, 5, 4, 2, 1),
)


@pytest.mark.parametrize(
    ("sample", "places"),
    [
        (0, [0, 1, 2, 3, 4, 6, 7]),
        (1, [0, 1, 2, 8]),
        (2, [9, 10]),
        (3, [0, 1, 2, 3, 4, 5]),
        (4, [0, 1, 2, 3, 4]),  # ends where others go on
        (5, [0, 1, 2]),
        (6, [0, 1]),  # ends inside of a segment
    ],
)
def test_a_trace_goes_from_the_root_to_the_samples_last_token(sample: int, places: list[int]) -> None:
    assert TREE.trace(sample) == places
    assert TREE.positions[places].tolist() == list(range(len(places)))


def test_a_path_goes_from_the_root_to_the_segment() -> None:
    assert [TREE.path(i) for i in range(6)] == [[0], [0, 1], [0, 1, 2], [0, 1, 3], [0, 4], [5]]


def test_routes_join_neighbours_of_one_slot() -> None:
    assert TREE.routes() == [Route(0, 0, 9), Route(1, 9, 11)]


def test_routes_of_other_slots_or_across_a_gap_stay_apart() -> None:
    routes = [Route(0, 0, 2), Route(0, 2, 3), Route(None, 3, 4), Route(None, 4, 6), Route(0, 6, 7), Route(0, 8, 9)]
    assert merge_routes(routes) == [Route(0, 0, 3), Route(None, 3, 6), Route(0, 6, 7), Route(0, 8, 9)]
    assert merge_routes([]) == []


def test_a_source_reads_as_editors_want_it() -> None:
    assert str(Source("rows.json", 12)) == "rows.json:12"


def test_edges_keep_weights_in_double_precision() -> None:
    edges = edges_of([(0, 5, 0.1), (0, 6, 0.2)])
    assert len(edges) == 2
    assert edges.weights.dtype == torch.float64
    assert edges.total_weight == pytest.approx(0.3, rel=1e-15)
    assert edges_of([]).total_weight == 0


@pytest.mark.parametrize(
    ("ids", "trained"), [((1, 2), (False,)), ((), ()), ((1, 2), (True, True))], ids=["lengths", "empty", "first"]
)
def test_a_sequence_is_built_valid_or_not_at_all(ids: tuple[int, ...], trained: tuple[bool, ...]) -> None:
    with pytest.raises(AssertionError):
        TokenSequence(ids, trained)
