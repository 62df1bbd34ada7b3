import tracemalloc
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.data.corpus import Corpus, CorpusBuilder, lengths_of
from graft.records import Source, TokenSequence

SAMPLES = st.builds(
    lambda ids, weight, line: TokenSequence(
        tuple(ids), (False, *(id % 2 == 0 for id in ids[1:])), line and Source("rows.json", line), weight=weight
    ),
    st.lists(st.integers(0, 2**31 - 1), min_size=1, max_size=30),
    st.floats(0.1, 5),
    st.none() | st.integers(1, 99),
)
SHARED = SAMPLES.map(
    lambda s: replace(
        s,
        shares=tuple(0.0 if not trained else 0.25 * (id % 3 + 1) for id, trained in zip(s.ids, s.trained, strict=True)),
    )
)
ROWS = st.lists(st.lists(SAMPLES | SHARED, max_size=3), max_size=6)


def built(rows: list[list[TokenSequence]], folder: Path | None = None) -> Corpus:
    builder = CorpusBuilder(folder)
    for number, samples in enumerate(rows):
        builder.append_row(samples, key=2**64 - 1 - number, origin=number % 2)
    return builder.finish()


@pytest.mark.parametrize("on_disk", [False, True])
@given(rows=ROWS)
def test_what_comes_out_is_what_went_in(on_disk: bool, rows: list[list[TokenSequence]]) -> None:
    with TemporaryDirectory() as folder:
        corpus = built(rows, Path(folder) if on_disk else None)
        samples = [sample for row in rows for sample in row]
        assert list(corpus) == samples
        assert corpus[1:] == samples[1:]
        assert len(corpus) == len(samples)
        assert not samples or corpus[-1] == samples[-1]
        assert corpus.lengths.tolist() == lengths_of(samples).tolist() == [len(sample) for sample in samples]
        assert corpus.rows.tolist() == [number for number, row in enumerate(rows) for _ in row]
        assert corpus.keys.tolist() == [2**64 - 1 - number for number in range(len(rows))]
        assert corpus.origins.tolist() == [number % 2 for number in range(len(rows))]
        assert corpus.any_trained() == any(sample.trained_tokens for sample in samples)
        if on_disk:
            assert list(Corpus.open(Path(folder))) == samples


@given(rows=ROWS, order=st.randoms(use_true_random=False))
def test_some_of_them_in_any_order(rows: list[list[TokenSequence]], order: object) -> None:
    corpus = built(rows)
    chosen = [number for number in range(len(corpus)) if number % 2] * 2
    order.shuffle(chosen)  # type: ignore[attr-defined]
    some = corpus.take(np.array(chosen, dtype=np.int32))
    assert list(some) == [corpus[number] for number in chosen]
    backwards = some.take(np.arange(len(some), dtype=np.int32)[::-1])
    assert list(backwards) == list(some)[::-1]
    assert backwards.rows.tolist() == some.rows.tolist()[::-1]
    assert backwards.lengths.tolist() == [len(sample) for sample in backwards]


def test_those_for_which_a_mask_holds_a_block_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.data.corpus._BLOCK", 7)
    corpus = built([[TokenSequence((n, n), (False, True))] for n in range(40)])
    mask = np.array([n % 3 == 0 or n > 30 for n in range(40)])
    assert list(corpus.take_where(mask)) == [corpus[n] for n in range(40) if mask[n]]
    some = corpus.take_where(mask)
    assert list(some.take_where(np.arange(len(some)) % 2 == 1)) == list(some)[1::2]


def test_more_than_waits_in_memory_is_written_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graft.data.corpus._FLUSHED", 50)
    rows = [[TokenSequence(tuple(range(n, n + 7)), (False,) + (True,) * 6)] for n in range(40)]
    assert list(built(rows, tmp_path)) == [sample for row in rows for sample in row]


def test_a_token_takes_few_bytes() -> None:
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    corpus = Corpus.of(TokenSequence(tuple(range(1000, 1300)), (False,) + (True,) * 299) for _ in range(2000))
    taken = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert taken < 8 * corpus.lengths.sum(), "5 for the token, and room to grow"
