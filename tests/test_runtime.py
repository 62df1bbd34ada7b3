import random
import sys

import pytest
import torch

from graft.runtime import PeakMemory, derived_seed, environment, seed_everything

MIB = 1 << 20


def test_a_derived_seed_is_the_same_on_every_machine_and_in_every_version() -> None:
    # Runs that were begun with one version are resumed with another, so this number may never change.
    assert derived_seed(42, "order", 0) == 1186917750850176449


def test_derived_seeds_differ_by_every_part_and_fit_the_generators() -> None:
    seeds = {derived_seed(seed, use, epoch) for seed in range(10) for use in ("order", "split") for epoch in range(10)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
    torch.Generator().manual_seed(max(seeds))


def test_seeding_makes_both_generators_repeat() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    try:
        seed_everything(7)
        first = (random.random(), torch.rand(3).tolist())
        seed_everything(7)
        assert (random.random(), torch.rand(3).tolist()) == first
        seed_everything(8)
        assert (random.random(), torch.rand(3).tolist()) != first
    finally:
        torch.use_deterministic_algorithms(before)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is that of the whole process")
def test_peak_memory_counts_what_was_in_use_since_it_was_made_and_is_free_again() -> None:
    cpu = torch.device("cpu")
    memory = PeakMemory(cpu)
    before = memory.bytes()
    block = bytearray(b"x") * (96 * MIB)
    del block
    assert 80 * MIB <= memory.bytes() - before <= 160 * MIB
    assert PeakMemory(cpu).bytes() <= before + 48 * MIB


def test_the_environment_names_what_can_change_a_result() -> None:
    found = environment()
    assert found["torch"] == torch.__version__
    assert {"graft", "python", "transformers", "platform", "cores", "threads", "devices"} <= found.keys()
