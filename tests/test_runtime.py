import random
import sys
from pathlib import Path

import psutil
import pytest
import torch

from graft.runtime import PeakMemory, derived_seed, environment, free_memory, give_memory_back, seed_everything

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


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere nothing is asked")
def test_what_was_freed_goes_back_to_the_system() -> None:
    process = psutil.Process()
    pieces = [torch.ones(MIB // 4) for _ in range(200)]
    last = pieces[-1]  # what lies above the others in the heap holds them there
    held = process.memory_info().rss
    pieces.clear()
    give_memory_back()
    assert last.sum() == MIB // 4
    assert process.memory_info().rss <= held - 150 * MIB


def group(folder: Path, **files: object) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"memory.{name}").write_text(f"{content}\n")


@pytest.mark.parametrize("version", [1, 2])
def test_free_memory_is_what_the_tightest_control_group_leaves(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own, groups = tmp_path / "own", tmp_path / "groups"
    monkeypatch.setattr("graft.runtime._OWN_GROUPS", own)
    monkeypatch.setattr("graft.runtime._GROUPS", groups)
    cpu = torch.device("cpu")
    everything = psutil.virtual_memory().total
    assert 0 < free_memory(cpu) <= everything, "no control groups at all"

    if version == 1:
        own.write_text("3:cpu:/a\n4:memory:/pod/box\n")
        root, limit, usage, cached = groups / "memory", "limit_in_bytes", "usage_in_bytes", "total_inactive_file"
        group(root, limit_in_bytes=2**63 - 4096, usage_in_bytes=5, stat="cache 7")
    else:
        own.write_text("0::/pod/box\n")
        root, limit, usage, cached = groups, "max", "current", "inactive_file"
        group(root, stat="anon 7")  # the real root has no limit
    group(root / "pod", **{limit: 10 * MIB, usage: 8 * MIB, "stat": f"anon 1\n{cached} {MIB}"})
    unlimited = 2**63 - 4096 if version == 1 else "max"
    group(root / "pod" / "box", **{limit: unlimited, usage: MIB, "stat": f"{cached} 0"})
    assert free_memory(cpu) == 3 * MIB, "of the parent's limit, with the files read that can be dropped"
    group(root / "pod" / "box", **{limit: MIB, usage: 2 * MIB})
    assert free_memory(cpu) == 0


def test_the_environment_names_what_can_change_a_result() -> None:
    found = environment()
    assert found["torch"] == torch.__version__
    assert {"graft", "python", "transformers", "platform", "cores", "threads", "devices"} <= found.keys()
