"""A Llama of a known shape with random weights, and rows for it, to measure speed and memory with.

    python bench/random_model.py llama-2-7b FOLDER --rows 256

writes FOLDER/model (safetensors, bfloat16) and FOLDER/rows.jsonl, which is encoded already. Neither speed nor memory
depends on what the weights know. The same arguments give the same rows.
"""

import argparse
import json
import math
import random
from pathlib import Path

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from graft.model import load_tokenizer, save_base
from graft.runtime import pick_device
from graft.seedling import seedling_path

# As the publishers' config.json have them.
SHAPES = {
    "llama-2-7b": {
        "vocab_size": 32_000, "hidden_size": 4096, "intermediate_size": 11_008, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "max_position_embeddings": 4096, "rms_norm_eps": 1e-5,
    },
    "llama-3-8b": {
        "vocab_size": 128_256, "hidden_size": 4096, "intermediate_size": 14_336, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 8, "max_position_embeddings": 8192, "rms_norm_eps": 1e-5,
        "rope_parameters": {"rope_type": "default", "rope_theta": 500_000.0},
    },
    "60m": {
        "vocab_size": 32_000, "hidden_size": 512, "intermediate_size": 1408, "num_hidden_layers": 8,
        "num_attention_heads": 8, "num_key_value_heads": 8, "max_position_embeddings": 2048,
    },
    "tiny": {
        "vocab_size": 2048, "hidden_size": 64, "intermediate_size": 172, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": 1024,
    },
}  # fmt: skip
SEED = 0

# Alpaca with Llama 2's tokenizer, cut at 512, in tokens: a sample has 230 on the average, of which 72% are the answer,
# and in batches of 8 in random order padding makes 1.96 of 1. So have these.
PREAMBLE = 29
PROMPT_MEDIAN, PROMPT_SIGMA = 31, 0.51
ANSWER_MEDIAN, ANSWER_SIGMA, LONGEST_ANSWER = 116, 1.1, 430


def make_rows(count: int, *, vocabulary: int) -> list[dict[str, list[int]]]:
    """Rows as `graft bench` takes them: the same preamble, then a prompt and an answer of log-normal lengths."""
    drawn = random.Random(SEED)

    def ids(length: int) -> list[int]:
        return [drawn.randrange(3, vocabulary) for _ in range(length)]  # 0 to 2 are the special ones

    def length(median: float, sigma: float) -> int:
        return max(1, round(drawn.lognormvariate(math.log(median), sigma)))

    preamble = [1, *ids(PREAMBLE - 1)]
    rows = []
    for _ in range(count):
        prompt = ids(length(PROMPT_MEDIAN, PROMPT_SIGMA))
        answer = ids(min(length(ANSWER_MEDIAN, ANSWER_SIGMA), LONGEST_ANSWER))
        trained = [0] * (PREAMBLE + len(prompt)) + [1] * len(answer)
        rows.append({"ids": preamble + prompt + answer, "trained": trained})
    return rows


def make_model(shape: str, folder: Path) -> None:
    """Weights are drawn on the device, which is quick there."""
    torch.manual_seed(SEED)
    torch.set_default_dtype(torch.bfloat16)
    with torch.device(pick_device()):
        model = LlamaForCausalLM(LlamaConfig(**SHAPES[shape], tie_word_embeddings=False))
    # Nothing is encoded with it; a model folder has one.
    save_base(model.to("cpu"), load_tokenizer(str(seedling_path())), folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, default=256)
    given = parser.parse_args()
    make_model(given.shape, given.folder / "model")
    rows = make_rows(given.rows, vocabulary=SHAPES[given.shape]["vocab_size"])
    (given.folder / "rows.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")


if __name__ == "__main__":
    main()
