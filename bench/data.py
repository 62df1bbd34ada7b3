"""How fast rows become samples, beside the bare tokenizer; how soon a second run starts; what memory many rows take.

    python bench/data.py rate --model FOLDER --data FILE     rows a second, interleaved with the library's batch call
    python bench/data.py memory --model FOLDER --rows 50000 --rows 5000000

`memory` writes made-up rows to a temporary folder and encodes them in a process of its own. Medians; a busy machine
shows in the processor's time.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

ROUNDS = 7


def rate(model: Path, data: Path) -> None:
    from graft.commands.samples import read_samples
    from graft.data import load_template, read_conversations, read_rows
    from graft.model import Tokenizer
    from graft.sections import DataConfig

    tokenizer = Tokenizer.from_folder(model)
    template = load_template("auto", tokenizer.chat_template)
    conversations = list(read_conversations(read_rows(str(data))))
    texts = [
        "".join(piece.text for piece in template.render(sample, tokenizer))
        for conversation in conversations
        for sample in template.samples(conversation, tokenizer)
    ]
    library = tokenizer.hf.backend_tokenizer
    settings = DataConfig(path=str(data), held_out=0, cutoff=2048, cache=False)
    fresh = iter([Tokenizer.from_folder(model) for _ in range(ROUNDS)])
    cached = settings.model_copy(update={"cache": True})
    read_samples(cached, template, tokenizer)
    runs: dict[str, Callable[[], object]] = {
        "tokenizers, encode_batch_fast": lambda: library.encode_batch_fast(texts),
        "tokenizers, encode_batch": lambda: library.encode_batch(texts),
        "graft, read + check + encode": lambda: read_samples(settings, template, tokenizer),
        "graft, its first rows ever": lambda: read_samples(settings, template, next(fresh)),
        "graft, from the cache": lambda: read_samples(cached, template, tokenizer),
    }
    seen: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            wall, cpu = time.perf_counter(), time.process_time()
            run()
            seen[name].append((time.perf_counter() - wall, time.process_time() - cpu))
    bare = next(iter(seen))
    for name, times in seen.items():
        wall, cpu = (median(t[i] for t in times) for i in (0, 1))
        ratio = median(b[0] / t[0] for b, t in zip(seen[bare], times, strict=True))
        print(
            f"{name:30} {len(texts) / wall:9,.0f} rows/s {wall:8.3f} s {cpu:8.3f} processor s {ratio:7.2f} x the first"
        )


def made_up(path: Path, rows: int) -> None:
    words = [f"{a}{b}" for a in ("ka", "mo", "ri", "tu", "be", "sol") for b in ("n", "ra", "lit", "ves", "dor")]
    drawn = random.Random(1)
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            asked, answered = (" ".join(drawn.choices(words, k=k)) for k in (8, 16))
            file.write(json.dumps({"instruction": f"{asked} {number}?", "output": f"{answered}."}) + "\n")


def encode(model: Path, data: Path) -> None:
    """In a process of its own: encode, and print what it took."""
    import psutil

    from graft.commands.samples import read_samples
    from graft.data import load_template
    from graft.model import Tokenizer
    from graft.sections import DataConfig

    tokenizer = Tokenizer.from_folder(model)
    template = load_template("auto", tokenizer.chat_template)
    process, most, done = psutil.Process(), [0], threading.Event()
    before = process.memory_info()

    def watch() -> None:
        while not done.wait(0.05):
            found = process.memory_info()
            most[0] = max(most[0], found.rss - found.shared)

    watcher = threading.Thread(target=watch)
    watcher.start()
    began = time.perf_counter()
    samples = read_samples(DataConfig(path=str(data)), template, tokenizer)
    took = time.perf_counter() - began
    again = time.perf_counter()
    read_samples(DataConfig(path=str(data)), template, tokenizer)
    again = time.perf_counter() - again
    done.set()
    watcher.join()
    rows = len(samples.train) + len(samples.held_out)
    held = (before.rss - before.shared) / 2**20
    print(
        f"{rows:9,} rows {rows / took:8,.0f} rows/s; own memory {held:5.0f} MiB before, "
        f"{most[0] / 2**20:5.0f} at most; second run {again:6.2f} s"
    )


def memory(model: Path, sizes: list[int]) -> None:
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "rows.jsonl"
            made_up(data, rows)
            time.sleep(2.1)  # what was written a moment ago is hashed anew, as it may be written again
            environment = {**os.environ, "GRAFT_CACHE": f"{folder}/cache"}
            command = [sys.executable, __file__, "encode", "--model", str(model), "--data", str(data)]
            subprocess.run(command, env=environment, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rate", "memory", "encode"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, action="append", default=[])
    given = parser.parse_args()
    if given.what == "memory":
        memory(given.model, given.rows)
    else:
        {"rate": rate, "encode": encode}[given.what](given.model, given.data)


if __name__ == "__main__":
    main()
