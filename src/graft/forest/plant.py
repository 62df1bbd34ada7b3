"""Sequences -> forest: samples share the prefixes that they have in common.

T = tokens in the stream, S = segments, E = edges.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

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
    groups: list[list[TokenSequence]] = []
    tokens = 0
    for sequence in sorted(sequences, key=_order):
        shared = max(common_prefix(groups[-1][-1], sequence), 0) if share and groups else 0
        tokens += len(sequence) - shared
        if groups and tokens <= max_tokens:
            groups[-1].append(sequence)
        else:
            groups.append([sequence])
            tokens = len(sequence)
    forests = [forest for group in groups for forest in _fit(group, max_tokens, share)]
    return sorted(forests, key=len, reverse=True)


def _fit(group: list[TokenSequence], max_tokens: int, share: bool) -> list[Forest]:
    """`group` as one forest, or as those of its halves: stretches too short to share make it longer than the sum."""
    forest = plant(group, share=share)
    if len(forest) <= max_tokens or len(group) == 1:
        return [forest]
    half = len(group) // 2
    return _fit(group[:half], max_tokens, share) + _fit(group[half:], max_tokens, share)


def common_prefix(a: TokenSequence, b: TokenSequence) -> int:
    """Tokens that `a` and `b` begin with alike; -1 where different adapters answer, as nothing is shared then."""
    if a.adapter_slot != b.adapter_slot:
        return -1
    shared = 0
    for x, y in zip(a.ids, b.ids, strict=False):
        if x != y:
            break
        shared += 1
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
