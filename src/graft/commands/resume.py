"""What lies in a run's folder, and whether the run that is asked for is the one to go on with."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from graft.adapters import CARD_FILE
from graft.commands.samples import Samples, data_paths
from graft.config import Config, build_config, flatten_settings, read_config, setting_names
from graft.data import content_hash
from graft.errors import ConfigError, GraftError, RunError, nearest
from graft.lock import refuse_locked
from graft.runtime import environment
from graft.staging import manifest_fault
from graft.terminal import is_unicode

CONFIG_FILE, DATA_FILE, ENVIRONMENT_FILE = "config.yaml", "data.json", "environment.json"
ADAPTER_FOLDER, REPORT_FILE, RESULT_FILE = "adapter", "report.html", "result.json"

LENGTHS = ("train.epochs", "train.max_steps")
STEERING = ("best.by", "best.patience", "best.min_gain")
MAY_CHANGE = {
    "checkpoint.every": "changes no step",
    "checkpoint.keep": "changes no step",
    "train.eval_every": "changes no step",
    "data.cache": "changes no step",
    "report.to": "changes no step",
    **dict.fromkeys(STEERING, "changes no step"),
    **dict.fromkeys(LENGTHS, "where the steps done had the rates that they would have had"),
    **dict.fromkeys(("bad_numbers.action", "bad_numbers.budget"), "changes no step that is done"),
    "train.max_tokens": "the same updates, rounded otherwise; with dropout, other draws",
    "train.recompute": "the same updates, rounded otherwise",
    "train.offload": "the same updates, rounded otherwise",
    "train.compile": "the same updates, rounded otherwise",
    "model.cache_dequantized": "the same updates, rounded otherwise",
    "data.path": "where the same rows lie now",
    "model.path": "where the same base lies now",
}
"""Settings that a run may go on with changed, if it is allowed, and why."""

_SHOWN = 80  # characters of a value in an error

# What `--out` may be taken for: of a process that was killed before it wrote the settings, only hidden files are left.
Standing = Literal["new", "unfinished", "finished"]


@dataclass(frozen=True)
class Change:
    """A setting, or a fact of the data, that is not what it was."""

    name: str
    before: object
    now: object

    def __str__(self) -> str:
        return f"{self.name} {_short(self.before)} -> {_short(self.now)}"


def standing_of(config: Config, out: Path, *, resume: bool = False, allow: Sequence[str] = ()) -> Standing:
    """What is in `out`: nothing, this run broken off, or this run with its result.

    Args:
        resume: there has to be a run.
        allow: names of settings that may have changed.

    Raises:
        RunError: it is in use by something else, or by a run with other settings; each is named, old and new.
    """
    for name in allow:
        _check_allowed(name, config)
    if not is_unicode(str(out.absolute())):
        raise RunError(f"the name of {out.absolute()} is not valid UTF-8", fix="give another --out")
    if not (out / CONFIG_FILE).exists():
        if resume:
            raise RunError(f"{out} holds no run to go on with", fix="leave --resume out to begin one")
        if out.exists() and not is_free(out):
            raise RunError(f"{out} is in use", fix="give another --out")
        refuse_locked(out)
        return "new"
    refuse_locked(out)
    changes = _changes(_settings_in(out), config)
    refused = [change for change in changes if change.name not in allow]
    if refused:
        raise RunError(f"the settings are not those of the run in {out}: {_listed(refused)}", fix=_way_out(refused))
    reopened = any(change.name in (*LENGTHS, *STEERING) for change in changes)  # another end, or another best step
    return "finished" if _is_finished(out) and not reopened else "unfinished"


def folder_of(config: Config, name: str, allow: Sequence[str] = ()) -> Path:
    """Where the run goes on or begins that was given no folder: the first of runs/NAME, runs/NAME-2, ... that holds it
    broken off, or nothing.

    Args:
        allow: names of settings that may have changed.
    """
    path, number = Path("runs") / name, 1
    while not _is_for(config, path, allow):
        number += 1
        path = Path("runs") / f"{name}-{number}"
    return path


def _is_for(config: Config, path: Path, allow: Sequence[str]) -> bool:
    try:
        return standing_of(config, path, allow=allow) != "finished"
    except RunError:
        return False


def is_free(out: Path) -> bool:
    """Whether a run can begin in the folder `out`; hidden files do not count."""
    return out.is_dir() and all(path.name.startswith(".") for path in out.iterdir())


def left_in(out: Path) -> list[bytes]:
    """The settings and the result in the folder `out`, by which to tell whether somebody else was there."""
    return [(out / name).read_bytes() if (out / name).exists() else b"" for name in (CONFIG_FILE, RESULT_FILE)]


def settings_hash(config: Config) -> str:
    """Of the settings that may not change, for checkpoints to be compared by."""
    fixed = {name: value for name, value in flatten_settings(config.model_dump()).items() if name not in MAY_CHANGE}
    return hashlib.sha256(json.dumps(fixed, sort_keys=True).encode()).hexdigest()


def data_as_given(config: Config, record: Mapping[str, Any]) -> dict[str, Any]:
    """What `data.json` says of the rows before they are encoded.

    Args:
        record: what the adapter will say of them.
    """
    paths = data_paths(config.data)
    return {**record, "files": {path: content_hash(path) if len(paths) > 1 else record["sha256"] for path in paths}}


def run_data(config: Config, record: Mapping[str, Any], samples: Samples) -> dict[str, Any]:
    """What `data.json` says: the rows by content, before and after they were encoded."""
    return {
        **data_as_given(config, record),
        "training_rows": len(samples.train),
        "held_out_rows": len(samples.held_out),
        "tokens_sha256": samples.digest(),
        "too_long": samples.too_long,
        "notes": samples.notes,
    }


def check_data(out: Path, now: Mapping[str, Any]) -> None:
    """Raise a RunError if the data are not those of the run in `out`; what differs is named, old and new.

    Args:
        now: what `data.json` would say, or a part of it.
    """
    if not (out / DATA_FILE).exists():  # broken off before it was written, and before any step
        return
    changes = list(_data_changes(_facts_in(out / DATA_FILE), now))
    if changes:
        what = f"the data are not those of the run in {out}: {_listed(changes)}"
        raise RunError(what, fix="restore them, or begin a new run with another --out")


def environment_changes(out: Path) -> list[Change]:
    """What is other on this machine than where the run in `out` began, of all that can change bits."""
    if not (out / ENVIRONMENT_FILE).exists():
        return []
    before, now = _facts_in(out / ENVIRONMENT_FILE), environment()
    names = [name for name in now if name in before and name != "memory_bytes"]
    return [Change(name, before[name], now[name]) for name in names if before[name] != now[name]]


def _check_allowed(name: str, config: Config) -> None:
    if name == "checkpoint.every" and config.bad_numbers.action == "roll_back":
        what = "--allow checkpoint.every: with bad_numbers.action roll_back it decides what is rolled back to"
        raise ConfigError(what, fix="leave it as it was, or begin a new run")
    if name not in MAY_CHANGE:
        known = setting_names()
        if name not in known:
            hint = f"did you mean `{alike}`? " if (alike := nearest(name, known)) else ""
            raise ConfigError(f"--allow {name}: unknown setting", fix=f"{hint}What may change: {', '.join(MAY_CHANGE)}")
        what = f"--allow {name}: a run cannot go on with another {name}"
        raise ConfigError(what, fix=f"begin a new run; what may change: {', '.join(MAY_CHANGE)}")


def _settings_in(out: Path) -> Config:
    try:
        return build_config(read_config(out / CONFIG_FILE))
    except GraftError as error:
        what = f"{out / CONFIG_FILE} is not what this version of Graft writes: {error.what}"
        raise RunError(what, fix="give another --out") from None


def _facts_in(path: Path) -> dict[str, Any]:
    try:
        facts = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {error}", fix="restore it; if it is lost, delete it") from None
    if not isinstance(facts, dict):
        raise RunError(f"{path} is not what Graft writes", fix="restore it; if it is lost, delete it")
    return facts


def _changes(before: Config, now: Config) -> list[Change]:
    old, new = flatten_settings(before.model_dump()), flatten_settings(now.model_dump())
    return [Change(name, old[name], new[name]) for name in new if old[name] != new[name]]


def _way_out(refused: Sequence[Change]) -> str:
    fix = "set them back, or give another --out"
    free = [change.name for change in refused if change.name in MAY_CHANGE]
    if len(free) == len(refused):
        flags = " ".join(f"--allow {name}" for name in free)
        return f"{flags} ({'; '.join(dict.fromkeys(MAY_CHANGE[name] for name in free))}), or {fix}"
    held = [change.name for change in refused if change.name not in MAY_CHANGE]
    return f"{fix}: a run cannot go on with another {', '.join(held)}"


def _is_finished(out: Path) -> bool:
    there = all((out / name).exists() for name in (REPORT_FILE, RESULT_FILE))
    return there and not manifest_fault(out / ADAPTER_FOLDER, but=[CARD_FILE])


def _data_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Change]:
    old, new = before.get("files", {}), now["files"]
    for (_, old_hash), (path, new_hash) in zip(old.items(), new.items(), strict=False):  # in order: paths may change
        if old_hash != new_hash:
            yield Change(f"SHA-256 of {path}", old_hash, new_hash)
    for name in ("sha256", "training_rows", "held_out_rows", "tokens_sha256"):
        if name in before and name in now and before[name] != now[name]:
            yield Change(name.replace("_", " "), before[name], now[name])


def _listed(changes: Sequence[Change]) -> str:
    return "; ".join(map(str, changes))


def _short(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if len(text) == 64 and text.isalnum():  # a hash
        return f"{text[:12]}..."
    return f"{text[:_SHOWN]}..." if len(text) > _SHOWN else text or "none"
