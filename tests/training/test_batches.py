import hashlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from graft.records import TokenSequence
from graft.training import Batches

ORDER = "7106ed16283569fab484a7ace132841d94ac80765c2aaf10de9215dd8769c170"


def batches(samples: int, batch: int, epochs: int = 3, max_steps: int = 0, seed: int = 1) -> Batches:
    sequences = [TokenSequence((number, 0), (False, True)) for number in range(samples)]
    return Batches(sequences, global_batch=batch, epochs=epochs, max_steps=max_steps, seed=seed)


def numbers(source: Batches, step: int) -> list[int]:
    return [sequence.ids[0] for sequence in source.of_step(step)]


@given(st.integers(1, 60), st.integers(1, 20), st.integers(1, 4), st.integers(0, 2**40))
def test_every_epoch_takes_every_sample_once_and_all_batches_but_the_last_are_full(
    samples: int, batch: int, epochs: int, seed: int
) -> None:
    source = batches(samples, batch, epochs, seed=seed)
    assert source.total_steps == source.steps_per_epoch * epochs
    for epoch in range(epochs):
        steps = range(epoch * source.steps_per_epoch + 1, (epoch + 1) * source.steps_per_epoch + 1)
        taken = [numbers(source, step) for step in steps]
        assert Counter(n for part in taken for n in part) == Counter(range(samples))
        assert all(len(part) == batch for part in taken[:-1])
        assert 0 < len(taken[-1]) <= batch


@given(st.integers(1, 40), st.integers(1, 9), st.integers(1, 4), st.randoms(use_true_random=False))
def test_a_run_that_begins_in_the_middle_takes_what_it_would_have_taken(
    samples: int, batch: int, epochs: int, random: Random
) -> None:
    source = batches(samples, batch, epochs)
    steps = list(range(1, source.total_steps + 1))
    in_order = {step: numbers(source, step) for step in steps}
    random.shuffle(steps)
    assert all(numbers(source, step) == in_order[step] for step in steps)
    assert all(numbers(batches(samples, batch, epochs), step) == in_order[step] for step in steps[:3])


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    source = batches(50, 50)
    orders = [numbers(source, step) for step in (1, 2, 3)] + [numbers(batches(50, 50, seed=2), 1)]
    assert len(set(map(tuple, orders))) == 4
    assert list(range(50)) not in orders


@pytest.mark.parametrize(
    ("samples", "batch", "epochs", "max_steps", "steps"),
    [(10, 4, 3, 0, 9), (10, 4, 3, 5, 5), (10, 4, 3, 100, 9), (10, 32, 2, 0, 2), (8, 4, 1, 0, 2), (1, 1, 1, 0, 1)],
)
def test_steps_of_a_run(samples: int, batch: int, epochs: int, max_steps: int, steps: int) -> None:
    assert batches(samples, batch, epochs, max_steps).total_steps == steps


def test_the_first_batch_is_the_heaviest_so_that_running_out_of_memory_shows_at_once() -> None:
    lengths = Random(3).choices(range(2, 90), k=47)
    sequences = [TokenSequence((number,) * n, (False,) * (n - 1) + (True,)) for number, n in enumerate(lengths)]
    source = Batches(sequences, global_batch=5, epochs=2, max_steps=0, seed=1)
    tokens = [sum(map(len, source.of_step(step))) for step in range(1, source.steps_per_epoch + 1)]
    assert tokens[0] == max(tokens[:-1])
    assert len(source.of_step(source.steps_per_epoch)) == 2, "the remainder stays where it is"


@pytest.mark.parametrize("workers", [0, 1, 4])
def test_the_order_of_rows_is_a_function_of_the_seed_whoever_asks_for_the_steps(workers: int) -> None:
    """There are no data workers: threads that ask for steps in any order are as near as one can come to them."""
    source = batches(50, 8, epochs=3)

    def ids_of(step: int) -> bytes:
        taken = batches(50, 8, epochs=3) if workers else source  # a worker has a copy of its own
        return repr(numbers(taken, step)).encode()

    steps = range(1, source.total_steps + 1)
    if workers:
        shuffled = Random(workers).sample(steps, len(steps))
        with ThreadPoolExecutor(workers) as pool:
            by_step = dict(zip(shuffled, pool.map(ids_of, shuffled), strict=True))
    else:
        by_step = {step: ids_of(step) for step in steps}
    in_order = b"".join(by_step[step] for step in steps)
    assert hashlib.sha256(in_order).hexdigest() == ORDER
