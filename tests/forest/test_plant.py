from collections import Counter, defaultdict
from collections.abc import Sequence
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.errors import EmptyBatchError
from graft.forest import plant, plant_batch, planted_tokens
from graft.forest.plant import MIN_SHARED, common_prefix
from graft.records import Forest, TokenSequence

Learned = dict[tuple[int | None, tuple[int, ...], int], float]
"""Weight by adapter slot, all tokens before, and the token that is learned."""


@st.composite
def samples(draw: st.DrawFn, stem: int = 6, most: int = 7) -> list[TokenSequence]:
    """Samples over three tokens, with beginnings in common by chance and by design."""
    token = st.integers(0, 2)
    stems = draw(st.lists(st.lists(token, min_size=stem // 2, max_size=stem), min_size=1, max_size=3))
    found = []
    for _ in range(draw(st.integers(1, most))):
        ids = draw(st.sampled_from([[], *stems])) + draw(st.lists(token, max_size=5)) or [0]
        trained = [False, *draw(st.lists(st.booleans(), min_size=len(ids) - 1, max_size=len(ids) - 1))]
        weight = draw(st.sampled_from([0.5, 1.0, 2.0]))  # sums of these are exact
        slot = draw(st.sampled_from([None, 0, 1]))
        share = draw(st.sampled_from([None, 0.25]))
        shares = (
            None if share is None else tuple(share if id else float(on) for id, on in zip(ids, trained, strict=True))
        )
        learned = trained if shares is None else [False, *(share > 0 for share in shares[1:])]
        found.append(TokenSequence(tuple(ids), tuple(learned), adapter_slot=slot, weight=weight, shares=shares))
    return found


def weight_of(sample: TokenSequence, place: int) -> float:
    return sample.weight * (sample.shares[place] if sample.shares else 1)


def learned_of_samples(sequences: Sequence[TokenSequence]) -> Learned:
    learned: Learned = defaultdict(float)
    for s in sequences:
        for place in range(1, len(s)):
            if s.trained[place]:
                learned[s.adapter_slot, s.ids[:place], s.ids[place]] += weight_of(s, place)
    return learned


def edges(forest: Forest) -> list[tuple[int, int, float]]:
    """(source, target, weight), sorted."""
    columns = (forest.edges.sources, forest.edges.targets, forest.edges.weights)
    return sorted(zip(*(column.tolist() for column in columns), strict=True))


def learned_of_forest(forest: Forest) -> Learned:
    """From the layout alone: the tokens above an edge's source are those of its segment's ancestors."""
    ids = forest.ids.tolist()
    learned: Learned = defaultdict(float)
    for source, target, weight in edges(forest):
        (segment,) = [s for s in forest.segments if s.start <= source < s.stop]
        slot, before = segment.adapter_slot, ids[segment.start : source + 1]
        while segment.parent is not None:
            segment = forest.segments[segment.parent]
            before = ids[segment.start : segment.stop] + before
        learned[slot, tuple(before), target] += weight
    return learned


@given(samples(), st.integers(1, 4), st.booleans())
def test_every_sample_stands_in_the_forest_whole(sequences: list[TokenSequence], least: int, share: bool) -> None:
    forest = plant(sequences, share=share, min_shared=least)
    assert forest.samples == len(sequences)
    for number, sequence in enumerate(sequences):
        trace = forest.trace(number)
        assert forest.ids[trace].tolist() == list(sequence.ids)
        assert forest.positions[trace].tolist() == list(range(len(sequence)))
        assert trace == sorted(trace)


@given(samples(), st.integers(1, 4), st.booleans())
def test_the_edges_are_what_the_samples_learn(sequences: list[TokenSequence], least: int, share: bool) -> None:
    forest = plant(sequences, share=share, min_shared=least)
    assert learned_of_forest(forest) == learned_of_samples(sequences)
    learned = [(s, place) for s in sequences for place in range(len(s)) if s.trained[place]]
    assert forest.edges.total_weight == sum(weight_of(*place) for place in learned)
    assert forest.trained_tokens == sum(s.trained_tokens for s in sequences)
    assert len({edge[:2] for edge in edges(forest)}) == len(forest.edges)  # equal edges are one


@given(samples(), st.integers(1, 4))
def test_a_segment_is_shared_by_one_slot_and_long_enough(sequences: list[TokenSequence], least: int) -> None:
    forest = plant(sequences, min_shared=least)
    assert forest.logical_tokens == sum(map(len, sequences))
    assert len(forest) <= forest.logical_tokens
    users: Counter[int] = Counter()
    for number, sequence in enumerate(sequences):
        trace = set(forest.trace(number))
        for index, segment in enumerate(forest.segments):
            if segment.start in trace:
                users[index] += 1
                assert segment.adapter_slot == sequence.adapter_slot
    assert all(len(forest.segments[index]) >= least for index, count in users.items() if count > 1)
    assert set(users) == set(range(len(forest.segments)))  # none stands there for nobody


@given(samples())
def test_with_no_least_length_no_token_is_computed_twice(sequences: list[TokenSequence]) -> None:
    paths = {(s.adapter_slot, s.ids[: place + 1]) for s in sequences for place in range(len(s))}
    assert len(plant(sequences, min_shared=1)) == len(paths)


@given(samples())
def test_without_sharing_every_token_is_laid_out(sequences: list[TokenSequence]) -> None:
    forest = plant(sequences, share=False)
    assert len(forest) == forest.logical_tokens == sum(map(len, sequences))
    assert len(forest.segments) == len(sequences)
    assert all(segment.parent is None for segment in forest.segments)


@given(samples(), st.integers(1, 4), st.randoms(use_true_random=False))
def test_the_order_given_does_not_matter(sequences: list[TokenSequence], least: int, random: Random) -> None:
    shuffled = list(sequences)
    random.shuffle(shuffled)
    one, other = plant(sequences, min_shared=least), plant(shuffled, min_shared=least)
    assert one.ids.tolist() == other.ids.tolist()
    assert one.segments == other.segments
    assert edges(one) == edges(other)


@given(samples(), st.integers(1, 4))
def test_segments_are_a_gapless_stream_with_parents_first_and_routes_cover_it(
    sequences: list[TokenSequence], least: int
) -> None:
    forest = plant(sequences, min_shared=least)
    stop = 0
    for index, segment in enumerate(forest.segments):
        assert segment.start == stop < segment.stop
        stop = segment.stop
        if segment.parent is None:
            assert segment.depth == 0
        else:
            parent = forest.segments[segment.parent]
            assert segment.parent < index
            assert segment.depth == parent.depth + len(parent)
            assert segment.adapter_slot == parent.adapter_slot
    assert stop == len(forest)
    routed = [route.slot for route in forest.routes() for _ in range(route.start, route.stop)]
    assert routed == [segment.adapter_slot for segment in forest.segments for _ in range(len(segment))]
    assert all(a.slot != b.slot for a, b in pairwise(forest.routes()))  # neighbours of one slot are one


def sample(*ids: int, trained: int = 1, slot: int | None = 0) -> TokenSequence:
    mask = (False,) * (len(ids) - trained) + (True,) * trained
    return TokenSequence(ids, mask, adapter_slot=slot)


def test_the_drawing_in_the_design() -> None:
    below = tuple(range(100, 100 + 16))
    forest = plant([sample(*below, 1, 2, 3, trained=2), sample(*below, 5, 6, trained=1)], min_shared=16)
    assert [(s.start, s.stop, s.parent, s.depth) for s in forest.segments] == [
        (0, 16, None, 0),
        (16, 19, 0, 16),
        (19, 21, 0, 16),
    ]
    assert edges(forest) == [(16, 2, 1), (17, 3, 1), (19, 6, 1)]
    assert (len(forest), forest.logical_tokens) == (21, 37)


def test_the_first_answer_token_after_a_shared_prompt_is_learned_from_the_prompts_last_token() -> None:
    forest = plant([sample(1, 2, 7), sample(1, 2, 8), sample(1, 2, 8)], min_shared=2)
    assert edges(forest) == [(1, 7, 1.0), (1, 8, 2.0)]


def test_too_short_a_beginning_is_not_shared_by_default() -> None:
    beginning = tuple(range(100, 99 + MIN_SHARED))
    assert len(plant([sample(*beginning, 1), sample(*beginning, 2)])) == 2 * MIN_SHARED
    assert len(plant([sample(99, *beginning, 1), sample(99, *beginning, 2)])) == MIN_SHARED + 2


def test_no_sample_is_an_error() -> None:
    with pytest.raises(EmptyBatchError):
        plant([])


@pytest.mark.parametrize(
    ("a", "b", "shared"),
    [
        (sample(1, 2, 3), sample(1, 2, 4), 2),
        (sample(1, 2), sample(1, 2, 4), 2),
        (sample(1, 2), sample(2, 2), 0),
        (sample(1, 2), sample(1, 2, slot=1), -1),
        (sample(1, 2, slot=None), sample(1, 2, slot=0), -1),
    ],
)
def test_a_common_prefix(a: TokenSequence, b: TokenSequence, shared: int) -> None:
    assert common_prefix(a, b) == common_prefix(b, a) == shared


def contents(forests: Sequence[Forest]) -> Counter[tuple[int, ...]]:
    return Counter(tuple(f.ids[f.trace(n)].tolist()) for f in forests for n in range(f.samples))


@given(samples(stem=2 * MIN_SHARED + 8, most=10), st.integers(1, 120), st.booleans())
def test_a_batch_keeps_to_the_bound_and_loses_nothing(sequences: list[TokenSequence], bound: int, share: bool) -> None:
    forests = plant_batch(sequences, max_tokens=bound, share=share)
    assert all(len(forest) <= bound or forest.samples == 1 for forest in forests)
    assert contents(forests) == Counter(s.ids for s in sequences)
    together: Learned = defaultdict(float)
    for forest in forests:
        for learned, weight in learned_of_forest(forest).items():
            together[learned] += weight
    assert together == learned_of_samples(sequences)
    assert sum(forest.logical_tokens for forest in forests) == sum(map(len, sequences))
    if not share:
        assert sum(map(len, forests)) == sum(map(len, sequences))


@given(samples(stem=2 * MIN_SHARED + 8, most=10), st.integers(1, 120))
def test_the_tokens_of_a_batch_are_counted_without_laying_it_out(sequences: list[TokenSequence], bound: int) -> None:
    assert planted_tokens(sequences, max_tokens=bound) == sum(map(len, plant_batch(sequences, max_tokens=bound)))


def test_a_batch_is_few_forests() -> None:
    prompt = tuple(range(100, 150))
    sequences = [sample(*prompt, answer, answer) for answer in range(40)]
    assert len(plant_batch(sequences, max_tokens=130)) == 1  # 50 + 40 * 2
    assert len(plant_batch(sequences, max_tokens=129)) == 2
    assert len(plant_batch(sequences, max_tokens=52 * 8, share=False)) == 5
    assert plant_batch([], max_tokens=10) == []
