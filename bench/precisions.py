"""What each precision of the base costs on this machine: the figures of docs/precisions.md.

    python bench/random_model.py 60m made
    python bench/precisions.py made [PRECISION...]

Steps of LoRA (rank 16, every linear layer) on 8 rows as long as Alpaca's, and 8 answers of 32 tokens. Each precision
runs in a process of its own, in turns; a time is the median over the rounds, memory the most of them. On a CPU times
are the processor's, of all threads together: what else the machine does then counts little.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import torch
from engine import step

from graft.adapters import METHODS, Bank
from graft.bench import load_encoded
from graft.config import LoraConfig, ModelConfig
from graft.forest import attach, plant
from graft.infer import Engine, Request
from graft.model import load_base
from graft.runtime import PeakMemory, pick_device

PRECISIONS: dict[str, dict[str, Any]] = {
    "float32": {"dtype": "float32"},
    "bfloat16": {"dtype": "bfloat16"},
    "float16": {"dtype": "float16"},
    "int8": {"quantize": "int8", "cache_dequantized": "never"},
    "nf4": {"quantize": "nf4", "cache_dequantized": "never"},
    "nf4, single": {"quantize": "nf4", "double_quant": False, "cache_dequantized": "never"},
    "fp4": {"quantize": "fp4", "cache_dequantized": "never"},
    "int8, kept": {"quantize": "int8", "cache_dequantized": "always"},
    "nf4, kept": {"quantize": "nf4", "cache_dequantized": "always"},
}
ROUNDS, STEPS, ANSWERS, ANSWER_TOKENS = 2, 3, 8, 32
MIB = 2**20


def measure(folder: Path, precision: str) -> dict[str, float]:
    """Figures of one precision, in this process."""
    settings, device = ModelConfig(**PRECISIONS[precision]), pick_device()
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    loading, began = PeakMemory(device), clock()
    base = load_base(
        str(folder / "model"),
        dtype=settings.dtype,
        quantize=settings.quantize,
        double_quant=settings.double_quant,
        cache_dequantized=settings.cache_dequantized,
        device=device,
    )
    loaded, loading_peak = clock() - began, loading.bytes()
    attach(base.model)
    stored = sum(tensor.nbytes for tensor in (*base.model.parameters(), *base.model.buffers()))
    bank = Bank(base.model)
    slot = bank.add(METHODS["lora"].create(base.model, LoraConfig(), seed=0))
    samples = load_encoded(folder / "rows.jsonl")
    training, seconds = PeakMemory(device), []
    for number in range(STEPS + 1):
        forest = plant([samples[i % len(samples)] for i in range(8 * number, 8 * number + 8)])
        began = clock()
        step(bank, slot, forest)
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append((clock() - began) / len(forest))
    training_peak, engine = training.bytes(), Engine(bank, [])
    requests = [Request(sample.ids[:40], slot, ANSWER_TOKENS) for sample in samples[:ANSWERS]]
    engine.complete(requests[:1])
    began = clock()
    engine.complete(requests)
    return {
        "load": loaded,
        "stored": stored,
        "loading": loading_peak,
        "training": training_peak,
        "step": statistics.median(seconds[1:]),
        "token": (clock() - began) / (ANSWERS * ANSWER_TOKENS),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("precisions", nargs="*", metavar="PRECISION", choices=[*PRECISIONS, []], default=[])
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(measure(given.folder, given.alone)))
        return
    chosen = given.precisions or list(PRECISIONS)
    found: dict[str, list[dict[str, float]]] = {name: [] for name in chosen}
    for _ in range(ROUNDS):
        for name in chosen:
            command = [sys.executable, Path(__file__), given.folder, "--alone", name]
            ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            found[name].append(json.loads(ran.stdout.splitlines()[-1]))
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {pick_device()}")
    print(f"{'':12} weights MiB | loading s, peak MiB | training ms a token, peak MiB | answering ms a token")
    for name, rounds in found.items():
        times = {key: statistics.median(figures[key] for figures in rounds) for key in ("load", "step", "token")}
        most = {key: max(figures[key] for figures in rounds) / MIB for key in ("stored", "loading", "training")}
        print(
            f"{name:12} {most['stored']:11.1f} | {times['load']:9.1f} {most['loading']:9.0f} | "
            f"{times['step'] * 1e3:19.2f} {most['training']:9.0f} | {times['token'] * 1e3:20.2f}"
        )


if __name__ == "__main__":
    main()
