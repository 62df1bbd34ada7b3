"""Sequences -> forest: samples share the prefixes that they have in common.

T = tokens in the stream, S = segments, E = edges.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch

from graft.errors import EmptyBatchError
from graft.records import Forest, Segment, TokenSequence, edges_of

MIN_SHARED = 8
"""Tokens that a prefix must have to become a segment of its own: a segment costs a few attention calls in each layer,
as much as some tokens do. Measured on a CPU for 3M and 60M parameters, see decision 0005."""


def plant(sequences: Sequence[TokenSequence], *, share: bool = True, min_shared: int = MIN_SHARED) -> Forest:
    """Lay `sequences` out as one forest.

    Args:
        sequences: the samples, in any order; the forest keeps none of it.
        share: give samples with a common prefix a common segment. Off where the forward is random (dropout).
        min_shared: tokens that a common stretch must have to be shared.

    Returns:
        A forest with sum(len(s)) tokens, fewer by every shared one. Its edges carry every trained token of every
        sample exactly once, or once with the summed weight where two samples train the same token after the same
        prefix.

    Raises:
        EmptyBatchError: there is no sample.
    """
    if not sequences:
        raise EmptyBatchError("no sample to lay out")
    order = sorted(range(len(sequences)), key=lambda i: _order(sequences[i]))
    bed = _Bed(ends=[0] * len(sequences))
    root = _Branch([(i, sequences[i]) for i in order], above=0, parent=None, last=-1)
    pending = [(group, root) for group in reversed(_groups(root, share, min_shared))]
    while pending:  # depth first: what a segment's descendants hold stands right behind it
        branch = _grow(bed, *pending.pop())
        pending += [(group, branch) for group in reversed(_groups(branch, share, min_shared))]
    return Forest(
        ids=torch.tensor(bed.ids, dtype=torch.long),
        positions=torch.tensor(bed.positions, dtype=torch.long),
        segments=tuple(bed.segments),
        edges=edges_of([(source, target, weight) for (source, target), weight in bed.edges.items()]),
        ends=tuple(bed.ends),
        logical_tokens=sum(map(len, sequences)),
        trained_tokens=sum(s.trained_tokens for s in sequences),
    )


def plant_batch(sequences: Sequence[TokenSequence], *, max_tokens: int, share: bool = True) -> list[Forest]:
    """Lay the samples of one optimizer step out as few forests of at most `max_tokens` tokens each, the longest first.

    A sample longer than that has a forest to itself.
    """
    rows = sorted(sequences, key=_order)
    shared = _shared(rows, share)
    forests = [plant(rows[start:stop], share=share) for start, stop in _stretches(rows, shared, max_tokens)]
    return sorted(forests, key=len, reverse=True)


def planted_tokens(sequences: Sequence[TokenSequence], *, max_tokens: int) -> int:
    """Tokens of the forests of `plant_batch`, which are not laid out."""
    rows = sorted(sequences, key=_order)
    shared = _shared(rows, share=True)
    return sum(_tokens(rows, shared, start, stop) for start, stop in _stretches(rows, shared, max_tokens))


def _shared(rows: Sequence[TokenSequence], share: bool) -> list[int]:
    """Tokens that each sample has in common with the one before it; -1 where nothing may be shared."""
    return [-1, *(common_prefix(one, other) if share else -1 for one, other in pairwise(rows))]


def _stretches(rows: Sequence[TokenSequence], shared: Sequence[int], max_tokens: int) -> Iterator[tuple[int, int]]:
    """The samples of each forest, [start, stop)."""
    start = tokens = 0
    for number, row in enumerate(rows):
        tokens += len(row) - max(shared[number], 0)
        if number and tokens > max_tokens:
            yield from _fit(rows, shared, (start, number), max_tokens)
            start, tokens = number, len(row)
    if rows:
        yield from _fit(rows, shared, (start, len(rows)), max_tokens)


def _fit(
    rows: Sequence[TokenSequence], shared: Sequence[int], stretch: tuple[int, int], max_tokens: int
) -> Iterator[tuple[int, int]]:
    """A stretch as one forest, or as those of its halves: what is too short to share makes it longer than the sum."""
    start, stop = stretch
    if stop - start == 1 or _tokens(rows, shared, start, stop) <= max_tokens:
        yield stretch
        return
    half = start + (stop - start) // 2
    yield from _fit(rows, shared, (start, half), max_tokens)
    yield from _fit(rows, shared, (half, stop), max_tokens)


def _tokens(rows: Sequence[TokenSequence], shared: Sequence[int], start: int, stop: int) -> int:
    """Tokens of the forest of samples [start, stop), as `plant` makes it."""
    tokens = 0
    pending = [(start, stop, 0)]
    while pending:
        start, stop, above = pending.pop()
        begins = [i for i in range(start, stop) if i == start or shared[i] - above < MIN_SHARED]
        for first, end in pairwise([*begins, stop]):
            below = min(shared[first + 1 : end]) if end - first > 1 else len(rows[first])
            tokens += below - above
            first += sum(len(rows[i]) == below for i in range(first, end))  # they end here, and are sorted first
            if first < end:
                pending.append((first, end, below))
    return tokens


def common_prefix(a: TokenSequence, b: TokenSequence) -> int:
    """Tokens that `a` and `b` begin with alike; -1 where different adapters answer, as nothing is shared then."""
    if a.adapter_slot != b.adapter_slot:
        return -1
    shared, most = 0, min(len(a), len(b))
    while shared < most:  # halves are compared at once, which is soon done
        middle = (shared + most + 1) // 2
        if a.ids[shared:middle] == b.ids[shared:middle]:
            shared = middle
        else:
            most = middle - 1
    return shared


_Numbered = tuple[int, TokenSequence]


@dataclass
class _Bed:
    """The forest while it grows."""

    ends: list[int]
    ids: list[int] = field(default_factory=list)
    positions: list[int] = field(default_factory=list)
    segments: list[Segment] = field(default_factory=list)
    edges: dict[tuple[int, int], float] = field(default_factory=dict)


@dataclass
class _Branch:
    """Sorted samples, each with its number, whose first `above` tokens are laid out, the last of them at `last`."""

    samples: list[_Numbered]
    above: int
    parent: int | None
    last: int


def _order(sequence: TokenSequence) -> tuple[object, ...]:
    """By what is shared, and then by all that tells samples of the same tokens apart."""
    slot = -1 if sequence.adapter_slot is None else sequence.adapter_slot
    return slot, sequence.ids, sequence.trained, sequence.weight, sequence.shares or ()


def _groups(branch: _Branch, share: bool, min_shared: int) -> list[list[_Numbered]]:
    """Runs of samples that go on alike for `min_shared` tokens; in sorted order neighbours decide that."""
    groups: list[list[_Numbered]] = []
    for sample in branch.samples:
        if groups and share and common_prefix(groups[-1][-1][1], sample[1]) - branch.above >= min_shared:
            groups[-1].append(sample)
        else:
            groups.append([sample])
    return groups


def _grow(bed: _Bed, group: list[_Numbered], branch: _Branch) -> _Branch:
    """Lay out what `group` has in common below `branch`; returns what is left of its samples."""
    above, start = branch.above, len(bed.ids)
    first, last = group[0][1], group[-1][1]
    stop = len(first) if len(group) == 1 else common_prefix(first, last)  # sorted: the ends differ the most
    bed.ids += first.ids[above:stop]
    bed.positions += range(above, stop)
    bed.segments.append(Segment(start, len(bed.ids), branch.parent, above, first.adapter_slot))
    for number, sample in group:
        bed.ends[number] = len(bed.ids) - 1
        for place in range(above, stop):
            if sample.trained[place]:
                source = branch.last if place == above else start + place - above - 1
                edge = (source, sample.ids[place])
                share = sample.shares[place] if sample.shares else 1.0
                bed.edges[edge] = bed.edges.get(edge, 0.0) + sample.weight * share
    left = [(number, sample) for number, sample in group if len(sample) > stop]
    return _Branch(left, stop, len(bed.segments) - 1, len(bed.ids) - 1)
