import tracemalloc
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from graft.data.corpus import Corpus
from graft.records import Source, TokenSequence

SAMPLES = st.builds(
    lambda ids, weight, slot, line: TokenSequence(
        tuple(ids), (False, *(id % 2 == 0 for id in ids[1:])), line and Source("rows.json", line), slot, weight
    ),
    st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=30),
    st.floats(0.1, 5),
    st.none() | st.integers(0, 9),
    st.none() | st.integers(1, 99),
)
SHARED = SAMPLES.map(
    lambda s: replace(
        s,
        shares=tuple(0.0 if not trained else 0.25 * (id % 3 + 1) for id, trained in zip(s.ids, s.trained, strict=True)),
    )
)


@given(st.lists(SAMPLES | SHARED, max_size=8))
def test_what_comes_out_is_what_went_in(samples: list[TokenSequence]) -> None:
    corpus = Corpus(samples)
    assert list(corpus) == samples
    assert corpus[1:] == samples[1:]
    assert len(corpus) == len(samples)
    assert not samples or corpus[-1] == samples[-1]


@given(st.lists(SAMPLES | SHARED, max_size=8))
def test_endings_are_those_of_the_samples(samples: list[TokenSequence]) -> None:
    expected = []
    for sample in samples:
        learned = [id for id, trained in zip(sample.ids, sample.trained, strict=True) if trained]
        expected.append((sample.source, len(sample), len(learned), learned[-1] if learned else None))
    assert list(Corpus(samples).endings()) == expected


def test_a_token_takes_few_bytes() -> None:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    corpus = Corpus(TokenSequence(tuple(range(1000, 1300)), (False,) + (True,) * 299) for _ in range(2000))
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert taken < 8 * sum(map(len, corpus)), "5 for the token, and room to grow"
