"""What the engine's parts cost, on this machine, with random weights: the figures of docs/engine.md.

    python bench/engine.py [PART...]        shared, samples, min-shared, blocks, loss, compile; all unless given

Variants take turns within each round, and a figure is the median over the rounds.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from random_model import SHAPES, make_rows
from transformers import LlamaConfig, LlamaForCausalLM

import graft.forest.loss
import graft.forest.segments
from graft.adapters import METHODS, Bank
from graft.config import LoraConfig
from graft.forest import Head, attach, backward_edge_loss, forest_hidden_states, head_of, plant
from graft.records import Edges, Forest, TokenSequence
from graft.runtime import pick_device, seed_everything
from graft.training import compile_norms
from graft.training.activations import saved_activations

ROUNDS = 5


def make_bank() -> tuple[Bank, int]:
    seed_everything(0)
    model = LlamaForCausalLM(LlamaConfig(**SHAPES["60m"], tie_word_embeddings=False)).eval().to(pick_device())
    attach(model)
    bank = Bank(model)
    return bank, bank.add(METHODS["lora"].create(model, LoraConfig(), seed=0))


def as_samples(count: int) -> list[TokenSequence]:
    """Rows as long as those of Alpaca, cut at 512, with its preamble of 29 tokens."""
    rows = make_rows(count, vocabulary=SHAPES["60m"]["vocab_size"])
    return [TokenSequence(tuple(row["ids"][:512]), tuple(map(bool, row["trained"][:512]))) for row in rows]


def step(bank: Bank, slot: int, forest: Forest, *, recompute: int = 0) -> None:
    """Forward and backward of one forest."""
    with (
        saved_activations(bank.model, recompute=recompute, offload=False),
        bank.routed(forest.routes(), needed=forest.edges.sources.unique()),
    ):
        hidden = forest_hidden_states(bank.model, forest)
        backward_edge_loss(head_of(bank.model), hidden, forest.edges)
    for _, parameter in bank.adapters[slot].named_parameters():
        parameter.grad = None


def medians(variants: dict[object, Callable[[], object]], rounds: int = ROUNDS) -> dict[object, float]:
    """Seconds of each variant."""
    taken: dict[object, list[float]] = {name: [] for name in variants}
    for number in range(rounds + 1):
        for name, run in variants.items():
            began = time.perf_counter()
            run()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if number:  # the first round warms up
                taken[name].append(time.perf_counter() - began)
    return {name: statistics.median(seconds) for name, seconds in taken.items()}


def shared() -> None:
    """A system prompt of 300 tokens before the rows of a step: how much of what sharing saves is saved in time."""
    bank, slot = make_bank()
    prompt = tuple(random.Random(1).choices(range(3, 32_000), k=300))
    samples = [TokenSequence(prompt + s.ids, (False,) * 300 + s.trained) for s in as_samples(8)]
    once, again = plant(samples), plant(samples, share=False)
    seconds = medians({"shared": lambda: step(bank, slot, once), "not shared": lambda: step(bank, slot, again)})
    tokens = len(again) / len(once)
    faster = seconds["not shared"] / seconds["shared"]
    print(f"a system prompt of 300 tokens, 8 samples: {len(again)} tokens, shared {len(once)}: {tokens:.2f} x fewer")
    print(f"  {seconds['not shared']:.2f} s, shared {seconds['shared']:.2f} s: {faster:.2f} x faster", end="")
    print(f", {faster / tokens:.2f} of the ratio of tokens")


def samples() -> None:
    """Time per token and samples in a forest. Layers run again, so that 512 samples fit."""
    bank, slot = make_bank()
    drawn = as_samples(512)
    forests = {count: plant(drawn[:count]) for count in (32, 128, 512)}
    runs = {count: lambda forest=forest: step(bank, slot, forest, recompute=1) for count, forest in forests.items()}
    per_token = {count: s / len(forests[count]) for count, s in medians(runs, rounds=2).items()}
    for count, seconds in per_token.items():
        print(
            f"{count:4} samples in a forest of {len(forests[count]):6} tokens: {seconds * 1e3:.3f} ms a token, "
            f"{seconds / per_token[32]:.2f} of that of 32"
        )


def min_shared() -> None:
    """Which common beginnings are worth a segment."""
    bank, slot = make_bank()
    drawn = as_samples(32)
    sizes = (1, 4, 8, 16, 30, 10_000)
    forests = {size: [plant(drawn[i : i + 8], min_shared=size) for i in range(0, 32, 8)] for size in sizes}
    runs = {size: lambda step_of=size: [step(bank, slot, f) for f in forests[step_of]] for size in sizes}
    for size, seconds in medians(runs).items():
        tokens = sum(map(len, forests[size]))
        print(
            f"shared from {size:5} tokens on: {tokens} tokens, {seconds:.2f} s, {seconds / tokens * 1e3:.3f} ms a token"
        )


@contextmanager
def constant(module: object, name: str, value: object) -> Iterator[None]:
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


def blocks() -> None:
    """Rows of a block of the back end `segments`."""
    bank, slot = make_bank()
    forest = plant(as_samples(8))

    def run(size: int) -> None:
        with constant(graft.forest.segments, "BLOCK", size):
            step(bank, slot, forest)

    for size, seconds in medians({size: lambda size=size: run(size) for size in (32, 64, 128, 256, 512)}).items():
        print(f"blocks of {size:3} rows: {seconds:.2f} s a step")


def loss() -> None:
    """Ways to the loss of 1,320 edges over 32,000 tokens, and the two products alone that none can do without."""
    torch.manual_seed(0)
    weight = torch.randn(32_000, 512) * 0.02
    hidden = torch.randn(1700, 512).requires_grad_()
    sources, targets = torch.randperm(1700)[:1320].sort().values, torch.randint(0, 32_000, (1320,))
    edges = Edges(sources, targets, torch.ones(1320, dtype=torch.float64))

    def autograd(**options: object) -> None:
        F.linear_cross_entropy(hidden[sources], weight, targets, reduction="sum", **options).backward()

    def whole() -> None:
        F.cross_entropy(hidden[sources] @ weight.t(), targets, reduction="sum").backward()

    def products() -> None:
        for part in hidden.detach()[sources].split(262):
            (part @ weight.t()) @ weight

    variants = {
        "ours": lambda: backward_edge_loss(Head(weight), hidden * 1.0, edges),
        "cross_entropy of all logits": whole,
        "the two products alone": products,
    }
    if hasattr(F, "linear_cross_entropy"):
        variants["linear_cross_entropy"] = autograd
        chunks = torch.nn.LinearCrossEntropyOptions()
        variants["linear_cross_entropy in chunks"] = lambda: autograd(options=chunks)
    for name, seconds in medians(variants).items():
        print(f"{name:32} {seconds:.3f} s")


def compile_() -> None:
    """A step with compiled norms, and what compiling them costs."""
    forest = plant(as_samples(8))
    (eager, slot), (compiled, _) = make_bank(), make_bank()
    began = time.perf_counter()
    compile_norms(compiled.model)
    step(compiled, slot, forest)
    print(f"the first step and compiling took {time.perf_counter() - began:.1f} s")
    seconds = medians({"eager": lambda: step(eager, slot, forest), "compiled": lambda: step(compiled, slot, forest)})
    for name, taken in seconds.items():
        print(f"norms {name:8} {taken:.2f} s a step")


PARTS = {
    "shared": shared, "samples": samples, "min-shared": min_shared, "blocks": blocks, "loss": loss, "compile": compile_,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[*PARTS, []], default=[])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {pick_device()}")
    for part in parser.parse_args().parts or PARTS:
        PARTS[part]()


if __name__ == "__main__":
    main()
