"""How much of what QLoRA learns on the demo is left when the merged model is quantised again: docs/methods.md.

    python bench/requantise.py OUT [--rates 4e-3,3e-4]        runs and requantise.md in OUT

Each rate is trained plainly and with `lora.quantization_aware`. The gain is the fall of the held-out loss, and the rise
of exact match, from the quantised base to the plain adapter; all candidates are held against that one.
"""

import argparse
from pathlib import Path

from graft.commands.assembly import open_answerer
from graft.commands.demo import demo_config
from graft.commands.eval import Examination
from graft.commands.merge import merge
from graft.commands.train import train
from graft.config import ModelConfig, build_config
from graft.data import read_conversations, read_rows
from graft.evaluation import Score
from graft.seedling import demo_held_out_path

KIND = "nf4"
HEAD = ("rate", "trained", "adapter: loss, exact match", "quantised again", "gain kept: loss", "exact match")
NEW_TOKENS = 64  # as the demo


def candidates(out: Path, rate: str, *, aware: bool) -> dict[str, Score]:
    """Figures of the base, the adapter, the merged model, and that quantised again."""
    settings = {"model.quantize": KIND, "train.learning_rate": rate, "lora.quantization_aware": aware}
    config = build_config(demo_config().model_dump(), settings)
    train(config, out)
    exam = Examination(list(read_conversations(read_rows(str(demo_held_out_path())))), config, NEW_TOKENS)
    answerer = open_answerer(config.model, out / "adapter")
    exam.ask("base", answerer, None)
    exam.ask("adapter", answerer, answerer.slot)
    merged = merge([str(out)], out / "merged").merged
    exam.ask("merged", open_answerer(ModelConfig(path=merged)), None)
    exam.ask("again", open_answerer(ModelConfig(path=merged, quantize=KIND)), None)
    return exam.scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--rates", default="4e-3,3e-4")
    given = parser.parse_args()
    lines = [HEAD, ("---",) * len(HEAD)]
    for rate in given.rates.split(","):
        plain = candidates(given.out / f"{rate}-plain", rate, aware=False)
        for name, of in (("plain", plain), ("aware", candidates(given.out / f"{rate}-aware", rate, aware=True))):
            base, best, again = of["base"], plain["adapter"], of["again"]
            kept = (base.loss - again.loss) / (base.loss - best.loss)
            matched = (again.exact_match - base.exact_match) / (best.exact_match - base.exact_match)
            adapter, left = (f"{s.loss:.3f}, {s.exact_match:.3f}" for s in (of["adapter"], again))
            lines.append((rate, name, adapter, left, f"{kept:.0%}", f"{matched:.0%}"))
            print(*lines[-1], sep=" | ", flush=True)
    (given.out / "requantise.md").write_text("".join(f"| {' | '.join(cells)} |\n" for cells in lines), "utf-8")


if __name__ == "__main__":
    main()
