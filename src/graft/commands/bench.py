"""`graft bench`: Graft and its peers on the same rows, model and LoRA, measured in turns in one run."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from itertools import chain, islice
from pathlib import Path
from typing import Any

from graft.adapters import METHODS, Provenance, save_adapter
from graft.bench import (
    BY_DEFAULT,
    PEERS,
    Contest,
    Figures,
    InOrder,
    Work,
    grouped_by_length,
    is_encoded,
    needed_flops,
    read_encoded,
    weights_of,
    write_encoded,
)
from graft.commands.assembly import check_positions, model_folder, refuse_unread
from graft.commands.run import Say
from graft.commands.samples import data_paths, named_data
from graft.config import BENCH_ROUNDS, BENCH_ROWS, Config, build_config, flatten_settings
from graft.data import encode_all, load_template, read_conversations, read_rows
from graft.errors import ConfigError, DataError, RunError, nearest
from graft.forest import plant_batch
from graft.model import Base, load_base, load_tokenizer
from graft.records import TokenSequence
from graft.report import bench_bars
from graft.runtime import environment, say_on_stderr
from graft.staging import staged
from graft.training import Batches

READS = (
    "model.path", "data.path", "data.format", "data.template", "data.cutoff", "data.too_long", "lora",
    "train.learning_rate", "train.weight_decay", "train.max_grad_norm", "train.global_batch", "train.max_tokens",
    "train.recompute", "train.compile", "train.seed",
)  # fmt: skip
# One pass at a constant rate, nothing held out and nothing saved. 8 samples per step: the peers' own default.
_SETTINGS = {
    "train.global_batch": 8,
    "train.schedule": "constant",
    "train.warmup_steps": 0,
    "train.epochs": 1,
    "data.held_out": 0,
    "checkpoint.every": 0,
}


@dataclass(frozen=True)
class BenchResult:
    """What a bench measured.

    Args:
        limits: FLOP/s of the machine's matrix products, by dtype.
        contenders: the figures of each that came to its end.
        failed: peers that did not, with the last line of their error.
        missing: peers that are not installed, with the way to install them.
        rows: that took part, the warm-up's included.
    """

    rows: int
    rounds: int
    settings: dict[str, Any]
    environment: dict[str, object]
    limits: dict[str, float]
    contenders: dict[str, Figures]
    failed: dict[str, str]
    missing: dict[str, str]

    def speed_ups(self) -> dict[str, float]:
        """How many times the samples/s of each peer Graft reaches, beside it."""
        return {
            name: self.contenders[figures.beside].samples_per_s / figures.samples_per_s
            for name, figures in self.contenders.items()
            if figures.beside
        }

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "speed_ups": self.speed_ups()}


def bench(
    settings: Mapping[str, Any],
    *,
    out: Path,
    peers: Sequence[str] = BY_DEFAULT,
    rows: int = BENCH_ROWS,
    rounds: int = BENCH_ROUNDS,
    say: Say = say_on_stderr,
) -> BenchResult:
    """Measure Graft and `peers`, each in a process of its own, and leave `bench.json` and `bench.svg` in `out`.

    Args:
        settings: of `READS`. The data may be rows that are encoded already: `{"ids": [...], "trained": [0, 1, ...]}`.
        peers: names of `PEERS`. Graft runs in the types and orders of those, or in all where there are none.
        rows: from the file's beginning; 0 for all. The first batch only warms up.
        rounds: in each every contender takes its turn.

    Raises:
        ProofError: a peer's losses are not Graft's; nothing is written then.
        GraftError: settings, data or model do not do, or Graft itself failed; likewise.
    """
    config = _check(settings, out=out, peers=peers, rows=rows, rounds=rounds)
    samples = _samples(config, rows, say)
    with tempfile.TemporaryDirectory(prefix="graft-bench-") as folder:
        contest = _prepare(config, samples, Path(folder), say)
        missing = contest.enter(peers)
        for number in range(1, rounds + 1):
            contest.hold_round(f"round {number}/{rounds}")
        result = BenchResult(
            rows=len(samples),
            rounds=rounds,
            settings=flatten_settings(config.model_dump(include={"model", "data", "lora", "train"})),
            environment={**environment(), **_versions(peers)},
            limits=contest.limits(),
            contenders=contest.figures(),
            failed=contest.failed,
            missing=missing,
        )
    with staged(out, replace=True) as written:  # the folder is empty, or is not there
        (written / "bench.json").write_text(json.dumps(result.as_json(), indent=1) + "\n", encoding="utf-8")
        (written / "bench.svg").write_text(bench_bars(result.as_json()["contenders"]), encoding="utf-8")
    return result


def _check(settings: Mapping[str, Any], *, out: Path, peers: Sequence[str], rows: int, rounds: int) -> Config:
    """The resolved settings, when everything that can be checked without the model and the data is right."""
    given = flatten_settings(settings)
    refuse_unread(given, verb="bench", reads=READS)
    config = build_config(_SETTINGS, given)
    for name in peers:
        if name not in PEERS:
            alike = nearest(name, PEERS)
            hint = f"did you mean `{alike}`? " if alike else ""
            raise ConfigError(f"no peer is called `{name}`", fix=f"{hint}There are {', '.join(PEERS)}")
    if config.lora.lora_dropout:
        what = f"with lora.lora_dropout {config.lora.lora_dropout} no two trainings have the same losses"
        raise ConfigError(f"{what}, so none could be compared", fix="leave it at 0")
    least = config.train.global_batch + 1
    if 0 < rows < least or rows < 0:
        what = f"--rows {rows}: the first {config.train.global_batch} (train.global_batch) only warm up"
        raise ConfigError(what, fix=f"give {least} or more, or 0 for all")
    if rounds < 1:
        raise ConfigError(f"--rounds {rounds} measures nothing", fix="give 1 or more")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is in use", fix="give another --out")
    return config


def _samples(config: Config, count: int, say: Say) -> Sequence[TokenSequence]:
    """The first `count` rows, encoded; 0 for all."""
    paths = data_paths(config.data)
    rows = list(islice(chain.from_iterable(map(read_rows, paths)), count or None))
    if is_encoded(rows):
        samples: Sequence[TokenSequence] = read_encoded(rows)
    else:
        tokenizer = load_tokenizer(model_folder(config.model.path))
        encoded = encode_all(
            read_conversations(rows, config.data.format, say=say),
            load_template(config.data.template, tokenizer.chat_template),
            tokenizer,
            cutoff=config.data.cutoff,
            too_long=config.data.too_long,
        )
        if encoded.long:
            say(encoded.report())
        samples = encoded.samples
    if len(samples) <= config.train.global_batch:
        given = f"{named_data(config.data)} gives {len(samples)} rows"
        what = f"{given}, and the first {config.train.global_batch} only warm up"
        raise DataError(what, fix="give more rows, or lower train.global_batch")
    return samples


def _prepare(config: Config, samples: Sequence[TokenSequence], folder: Path, say: Say) -> Contest:
    """Write what the contenders share, once: the rows in both orders and the LoRA that all begin with."""
    batches = Batches(samples, global_batch=config.train.global_batch, epochs=1, max_steps=0, seed=config.train.seed)
    batches.check_fit(config.train.max_tokens)
    base = load_base(model_folder(config.model.path))
    _check_samples(base, samples)
    adapter = METHODS["lora"].create(base.model, config.lora, seed=config.train.seed)
    (folder / "adapter").mkdir()
    provenance = Provenance(config.model.path, config.model.dtype, "", {}, {})
    save_adapter(folder / "adapter", adapter, base.model, provenance)
    weights = weights_of(base.model, adapter)

    def work(step: Sequence[TokenSequence]) -> Work:
        forests = plant_batch(step, max_tokens=config.train.max_tokens, share=adapter.deterministic)
        return Work(
            samples=len(step),
            tokens_logical=sum(map(len, step)),
            tokens_trained=sum(sample.trained_tokens for sample in step),
            needed_flops=sum(needed_flops(weights, forest) for forest in forests),
        )

    size, seed = config.train.global_batch, config.train.seed
    shuffled = [sample for step in range(1, batches.total_steps + 1) for sample in batches.of_step(step)]
    grouped = shuffled[:size] + grouped_by_length(shuffled[size:], global_batch=size, seed=seed)
    files, steps = {}, {}
    for by_length, order in ((False, shuffled), (True, grouped)):
        files[by_length] = folder / f"rows-{by_length}.jsonl"
        write_encoded(files[by_length], order)
        ordered = InOrder(order, global_batch=size)
        steps[by_length] = [work(ordered.of_step(step)) for step in range(1, ordered.total_steps + 1)]
    model = config.model.model_copy(update={"path": str(base.files[0].parent.resolve())})
    return Contest(config.model_copy(update={"model": model}), weights, folder / "adapter", files, steps, folder, say)


def _check_samples(base: Base, samples: Sequence[TokenSequence]) -> None:
    check_positions(base, samples)
    largest = max(samples, key=lambda sample: max(sample.ids))
    known = base.model.config.vocab_size
    if max(largest.ids) >= known:
        what = f"{largest.source}: the id {max(largest.ids)}, and {base.path} has {known} embeddings"
        raise DataError(what, fix="give rows encoded with the model's tokenizer")


def _versions(peers: Sequence[str]) -> dict[str, str]:
    modules = sorted({module for name in peers for module in PEERS[name].needs})
    return {module: metadata.version(module) for module in modules if find_spec(module)}
