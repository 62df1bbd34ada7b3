"""How fast rows become samples, beside the bare tokenizer; how soon a second run starts; what memory many rows take.

    python bench/data.py rate --model FOLDER --data FILE     rows a second, interleaved with the library's batch call
    python bench/data.py memory --model FOLDER --rows 50000 --rows 5000000
    python bench/data.py check --model FOLDER --rows 50000 --rows 500000     `graft data check`; `show` for that

All but `rate` write made-up rows to a temporary folder and take a process of its own for each number of them. Medians;
a busy machine shows in the processor's time.
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
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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


def made_up(path: Path, rows: int, *, copies: bool = False) -> None:
    """Rows of 24 words each; with `copies` every tenth says what an earlier one says, or nearly."""
    words = [f"{a}{b}" for a in ("ka", "mo", "ri", "tu", "be", "sol") for b in ("n", "ra", "lit", "ves", "dor")]
    drawn = random.Random(1)
    said: list[tuple[str, str]] = []  # those that are said again
    with path.open("w", encoding="utf-8") as file:
        for number in range(rows):
            asked, answered = (" ".join(drawn.choices(words, k=k)) for k in (8, 16))
            asked, answered = f"{asked} {number}?", f"{answered}."
            if copies and said and number % 10 == 0:
                asked, answered = drawn.choice(said)
                answered = answered.replace("a", "o", number // 10 % 2)
            elif len(said) < 1000:
                said.append((asked, answered))
            file.write(json.dumps({"instruction": asked, "output": answered}) + "\n")


def encode(model: Path, data: Path) -> None:
    """In a process of its own: encode, and print what it took."""
    from graft.commands.samples import read_samples
    from graft.data import load_template
    from graft.model import Tokenizer
    from graft.sections import DataConfig

    tokenizer = Tokenizer.from_folder(model)
    template = load_template("auto", tokenizer.chat_template)
    with _watched() as most:
        before, began = most(), time.perf_counter()
        samples = read_samples(DataConfig(path=str(data)), template, tokenizer)
        took = time.perf_counter() - began
        rows = len(samples.train) + len(samples.held_out)
        del samples  # a run holds them once
        again = time.perf_counter()
        read_samples(DataConfig(path=str(data)), template, tokenizer)
        again = time.perf_counter() - again
    print(
        f"{rows:9,} rows {rows / took:8,.0f} rows/s; own memory {before / 2**20:5.0f} MiB before, "
        f"{most() / 2**20:5.0f} at most; second run {again:6.2f} s"
    )


@contextmanager
def _watched() -> Iterator[Callable[[], int]]:
    """The most memory of its own that this process has had since, in bytes."""
    import psutil

    process, done = psutil.Process(), threading.Event()
    most = [0]

    def look() -> int:
        found = process.memory_info()
        most[0] = max(most[0], found.rss - found.shared)
        return most[0]

    def watch() -> None:
        while not done.wait(0.05):
            look()

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield look
    finally:
        done.set()
        watcher.join()


def look(verb: str, model: Path, data: Path) -> None:
    """In a process of its own: check or show, and print what it took."""
    from graft.commands.data import check
    from graft.commands.show import show
    from graft.config import build_config

    config = build_config({"model.path": str(model), "data.path": str(data)})
    with _watched() as most:
        before, began, busy = most(), time.perf_counter(), time.process_time()
        if verb == "check":
            checked = check(config, say=lambda note: None)
            rows, found = checked.rows, ", ".join(f"{len(f.found.rows):,} {f.check}" for f in checked.findings)
        else:
            figures = show(config, say=lambda note: None).statistics
            rows, found = figures.rows, f"{figures.near:,} near, {figures.saved:.1%} saved"
        took, busy = time.perf_counter() - began, time.process_time() - busy
    print(
        f"{rows:9,} rows {rows / took:8,.0f} rows/s {took:7.1f} s {busy:7.1f} processor s; own memory "
        f"{before / 2**20:5.0f} MiB before, {most() / 2**20:5.0f} at most; load {os.getloadavg()[0]:.1f}; {found}"
    )


def memory(model: Path, sizes: list[int], verb: str = "encode") -> None:
    for rows in sizes:
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "rows.jsonl"
            made_up(data, rows, copies=verb != "encode")
            time.sleep(2.1)  # what was written a moment ago is hashed anew, as it may be written again
            environment = {**os.environ, "GRAFT_CACHE": f"{folder}/cache"}
            command = [sys.executable, __file__, verb, "--data", str(data), "--model", str(model)]
            subprocess.run(command, env=environment, check=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["rate", "memory", "encode", "check", "show"])
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--rows", type=int, action="append", default=[])
    given = parser.parse_args()
    if given.what == "memory":
        memory(given.model, given.rows)
    elif given.what in ("check", "show"):
        if given.data:
            look(given.what, given.model, given.data)
        else:
            memory(given.model, given.rows, given.what)
    else:
        {"rate": rate, "encode": encode}[given.what](given.model, given.data)


if __name__ == "__main__":
    main()
