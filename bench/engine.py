"""What the engine's parts cost, on this machine, with random weights: the figures of docs/engine.md.

    python bench/engine.py [PART...]        shared, samples, min-shared, blocks, loss, compile, profile; all unless
    given

Variants take turns within each round, and a figure is the median over the rounds.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import torch
import torch.nn.functional as F
from random_model import SHAPES, make_rows
from transformers import LlamaConfig, LlamaForCausalLM

import graft.forest.loss
import graft.forest.segments
from graft.adapters import METHODS, Bank
from graft.config import LoraConfig, TrainConfig
from graft.forest import Head, attach, backward_edge_loss, forest_hidden_states, head_of, plant, plant_batch
from graft.forest.back_ends import choose
from graft.records import Edges, Forest, TokenSequence
from graft.runtime import pick_device, seed_everything
from graft.training import compile_norms
from graft.training.activations import saved_activations

ROUNDS = 5


def make_bank(vocabulary: int = 32_000) -> tuple[Bank, int]:
    seed_everything(0)
    shape = {**SHAPES["60m"], "vocab_size": vocabulary, "tie_word_embeddings": False}
    model = LlamaForCausalLM(LlamaConfig(**shape)).eval().to(pick_device())
    attach(model)
    bank = Bank(model)
    return bank, bank.add(METHODS["lora"].create(model, LoraConfig(), seed=0))


def as_samples(count: int, *, cutoff: int = 512) -> list[TokenSequence]:
    """Rows as long as those of Alpaca, with its preamble of 29 tokens."""
    rows = make_rows(count, vocabulary=SHAPES["60m"]["vocab_size"])
    return [TokenSequence(tuple(row["ids"][:cutoff]), tuple(map(bool, row["trained"][:cutoff]))) for row in rows]


def step(bank: Bank, slot: int, forest: Forest, *, recompute: int = 0) -> None:
    """Forward and backward of one forest."""
    with (
        saved_activations(bank.model, recompute=recompute, offload=False),
        bank.routed(forest.routes(), needed=forest.edges.distinct_sources),
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
    """A system prompt of 300 tokens before the rows of a step: how much of what sharing saves is saved in time.

    The head works for the answers, which nobody shares. For a token of an answer it costs 60% of what this model's
    layers cost where the vocabulary has 32,000 tokens, and 4% where it has 2,000; in a 7B Llama it is 2%.
    """
    for vocabulary in (32_000, 2_000):
        bank, slot = make_bank(vocabulary)
        prompt = tuple(random.Random(1).choices(range(3, vocabulary), k=300))
        rows = [TokenSequence(tuple(id % vocabulary for id in s.ids), s.trained) for s in as_samples(8)]
        drawn = [TokenSequence(prompt + s.ids, (False,) * 300 + s.trained) for s in rows]
        once, again = plant(drawn), plant(drawn, share=False)
        seconds = medians({"shared": partial(step, bank, slot, once), "not": partial(step, bank, slot, again)})
        tokens, faster = len(again) / len(once), seconds["not"] / seconds["shared"]
        print(f"a system prompt of 300 tokens, 8 samples, a vocabulary of {vocabulary}:")
        print(
            f"  {len(again)} tokens, shared {len(once)}: {tokens:.2f} x fewer; {seconds['not']:.2f} s, shared", end=""
        )
        print(f" {seconds['shared']:.2f} s: {faster:.2f} x faster, {faster / tokens:.2f} of the ratio of tokens")


def samples() -> None:
    """Time per token and samples of a step, cut into forests as training does, and in one.

    Rows are short and layers run again, so that 512 samples fit into one forest.
    """
    bank, slot = make_bank()
    drawn = as_samples(512, cutoff=80)
    for most in (TrainConfig().max_tokens, 10**9):
        steps = {count: plant_batch(drawn[:count], max_tokens=most) for count in (32, 128, 512)}
        runs = {count: lambda of=count, to=steps: [step(bank, slot, f, recompute=1) for f in to[of]] for count in steps}
        taken = medians(runs, rounds=1)
        per_token = {count: seconds / sum(map(len, steps[count])) for count, seconds in taken.items()}
        for count, seconds in per_token.items():
            print(
                f"{count:4} samples, {sum(map(len, steps[count])):6} tokens, forests: {len(steps[count])}: "
                f"{seconds * 1e3:.3f} ms a token, {seconds / per_token[32]:.2f} of that of 32 samples"
            )


def min_shared() -> None:
    """Which common beginnings are worth a segment."""
    bank, slot = make_bank()
    drawn = as_samples(32)
    sizes = (1, 8, 16, 10_000)
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
    if choose(bank.model) != "segments":
        print("blocks: this device attends with another back end")
        return
    forest = plant(as_samples(8))

    def run(size: int) -> None:
        with constant(graft.forest.segments, "BLOCK", size):
            step(bank, slot, forest)

    for size, seconds in medians({size: lambda size=size: run(size) for size in (32, 64, 128, 512)}).items():
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


def profile() -> None:
    """Where the time of a step goes."""
    bank, slot = make_bank()
    forest = plant(as_samples(8))
    step(bank, slot, forest)
    with torch.profiler.profile() as record:
        step(bank, slot, forest)
    spent = sorted(((event.self_cpu_time_total, event.key) for event in record.key_averages()), reverse=True)
    for time_us, name in spent[:15]:
        print(f"{time_us / sum(us for us, _ in spent):6.1%} {name}")


PARTS = {
    "shared": shared, "samples": samples, "min-shared": min_shared, "blocks": blocks, "loss": loss, "compile": compile_,
    "profile": profile,
}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", choices=[*PARTS, []], default=[])
    print(f"torch {torch.__version__}, {torch.get_num_threads()} threads, {pick_device()}")
    for part in parser.parse_args().parts or PARTS:
        PARTS[part]()


if __name__ == "__main__":
    main()
