"""Every method on the demo: what it trains, takes and learns; and LoRA of every rank. The figures of docs/methods.md.

    python bench/methods.py OUT [--only NAME,...]        table.md, ranks.svg and figures.json in OUT

Each run is a process of its own, so that peak memory is its own. Seconds are the processor's, of training, so that what
else the machine does counts little. A run that is in OUT already is not made again.
"""

import argparse
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from graft.commands.assembly import open_answerer
from graft.commands.demo import demo_config
from graft.commands.eval import Examination
from graft.commands.outlook import outlook
from graft.commands.train import train
from graft.config import Config, build_config
from graft.data import read_conversations, read_rows
from graft.runtime import PeakMemory
from graft.seedling import demo_held_out_path

# What differs from the demo's own run: methods of few parameters take higher rates.
RUNS: dict[str, dict[str, Any]] = {
    "LoRA r16": {},
    "DoRA r16": {"lora.use_dora": True},
    "full": {"method": "full", "train.learning_rate": 1e-3},
    "LLaMA-Adapter v1": {
        "method": "llama_adapter",
        "adaption.adapter_layers": 4,
        "adaption.adapter_len": 32,
        "train.learning_rate": 3e-2,
    },
    "LLaMA-Adapter v2": {"method": "llama_adapter_v2", "train.learning_rate": 1e-2},
    "prefix": {"method": "prefix", "prefix.num_virtual_tokens": 32, "train.learning_rate": 3e-2},
    "prompt": {"method": "prompt", "train.learning_rate": 3e-2},
    "IA3": {"method": "ia3", "train.learning_rate": 3e-2},
    "BitFit": {"method": "bitfit", "train.learning_rate": 1e-2},
    "LoRA r16, bf16 base": {"model.dtype": "bfloat16"},
    "QLoRA r16, int8 base": {"model.quantize": "int8"},
    "QLoRA r16, NF4 base": {"model.quantize": "nf4"},
}
RANKS = {r: "LoRA r16" if r == 16 else f"rank {r}" for r in (1, 2, 4, 8, 16, 32, 64)}
RUNS |= {name: {"lora.r": r, "lora.lora_alpha": 2 * r} for r, name in RANKS.items() if r != 16}
NEW_TOKENS = 64  # as the demo


def config_of(name: str) -> Config:
    return build_config(demo_config().model_dump(), RUNS[name])


def run(name: str, out: Path) -> dict[str, Any]:
    """One run's figures."""
    config = config_of(name)
    trained = outlook(config).trained_parameters
    memory, began = PeakMemory(open_answerer(config.model).base.model.device), time.process_time()
    train(config, out / name)
    seconds, peak = time.process_time() - began, memory.bytes()
    exam = Examination(list(read_conversations(read_rows(str(demo_held_out_path())))), config, NEW_TOKENS)
    answerer = open_answerer(config.model, out / name / "adapter")
    exam.ask("base", answerer, None)
    exam.ask("adapter", answerer, answerer.slot)
    scores = exam.scores
    return {
        "trained_parameters": trained,
        "seconds": seconds,
        "peak_memory_bytes": peak,
        "base_loss": scores["base"].loss,
        "loss": scores["adapter"].loss,
        "exact_match": scores["adapter"].exact_match,
        "settings": RUNS[name],
    }


def table(figures: dict[str, dict[str, Any]]) -> str:
    rows = [
        [
            name,
            f"{of['trained_parameters']:,}",
            f"{of['seconds']:.0f}",
            f"{of['peak_memory_bytes'] / 2**20:.0f}",
            f"{of['loss']:.3f}",
            f"{of['exact_match']:.3f}",
            ", ".join(f"{key}={value}" for key, value in of["settings"].items()),
        ]
        for name, of in figures.items()
    ]
    head = ["method", "trained parameters", "processor seconds", "peak MiB", "held-out loss", "exact match", "settings"]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (head, ["---"] * len(head), *rows))


def picture(figures: dict[str, dict[str, Any]]) -> str:
    """Quality against size, over the ranks."""
    known = {r: figures[name] for r, name in RANKS.items() if name in figures}
    places = [(of["trained_parameters"], of["exact_match"]) for of in known.values()]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(*zip(*places, strict=True), marker="o")
    for r, place in zip(known, places, strict=True):
        axes.annotate(f"r = {r}", place, xytext=(4, -12), textcoords="offset points")
    axes.set(xscale="log", xlabel="trained parameters", ylabel="exact match", title="LoRA on the demo, by rank")
    target = io.StringIO()
    figure.savefig(target, format="svg", metadata={"Date": None})
    return target.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--only", default="", help="names, divided by semicolons")
    parser.add_argument("--alone", default="", help="make this run and print its figures")
    given = parser.parse_args()
    if given.alone:
        print(json.dumps(run(given.alone, given.out)))
        return
    given.out.mkdir(parents=True, exist_ok=True)
    for name in given.only.split(";") if given.only else RUNS:
        file = given.out / f"{name}.json"
        if not file.exists():
            command = [sys.executable, __file__, str(given.out), "--alone", name]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
            file.write_text(done.stdout.splitlines()[-1], encoding="utf-8")
        print(f"{name}: {file.read_text()}", flush=True)
    files = {name: given.out / f"{name}.json" for name in RUNS}
    figures = {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}
    (given.out / "figures.json").write_text(json.dumps(figures, indent=1), encoding="utf-8")
    (given.out / "table.md").write_text(table(figures), encoding="utf-8")
    (given.out / "ranks.svg").write_text(picture(figures), encoding="utf-8")


if __name__ == "__main__":
    main()
