"""`graft synth`: training data that a teacher model makes from seed tasks."""

import asyncio
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graft.data.synth import (
    PROMPTS,
    Asker,
    Growth,
    Journal,
    SynthSettings,
    Task,
    Teacher,
    TeacherError,
    build_settings,
    prompts_hash,
    read_seeds,
    read_settings,
    refuse_changes,
    seeds_hash,
    write_settings,
)
from graft.data.write import folder_or_none, write_rows
from graft.errors import ConfigError, RunError
from graft.report import synth_report
from graft.runtime import say_on_stderr

Say = Callable[[str], None]


@dataclass(frozen=True)
class SynthResult:
    """What was made, and what was left out.

    Args:
        data: the file of rows in Alpaca's format.
        report: the figures, as in `report.json`.
    """

    data: str
    report: Mapping[str, Any]

    def as_json(self) -> dict[str, Any]:
        return {"data": self.data, **self.report}


def synth(given: Mapping[str, Any], out: Path, *, resume: bool = False, say: Say = say_on_stderr) -> SynthResult:
    """Make rows in `out/data.jsonl`, by asking a teacher for new tasks like the seeds, and examples of them.

    Args:
        given: settings by name, as in `SynthSettings`; those of the run are taken for the others where it is resumed.
        resume: go on with the run in `out`. What its journal holds is not asked again.

    Raises:
        GraftError: settings or seeds cannot be used, the teacher fails, or no row was made. What the teacher replied
            before is kept, and the rows that it gives are written.
    """
    saved, was_made_of = read_settings(out / "settings.yaml") if resume else ({}, {})
    settings = build_settings({**saved, **given})
    seeds = _seeds_for(settings, say)
    made_of = {"seeds": seeds_hash(settings.seeds), "prompts": prompts_hash(PROMPTS)}
    if resume:
        refuse_changes(out / "settings.yaml", build_settings(saved), settings, was_made_of, made_of)
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise RunError(f"{out} is in use", fix="give another --out, or go on with that run with --resume")
    teacher = Teacher(settings, say)
    with folder_or_none(out):
        if not resume:
            _replace(out / "settings.yaml", lambda path: write_settings(path, settings, made_of))
        with Journal(out / "journal.jsonl") as journal:
            if resume:
                _replace(out / "settings.yaml", lambda path: write_settings(path, settings, made_of))
                say(f"going on after {len(journal)} replies")
            return _grow(seeds, settings, journal, teacher, out, say)


def _grow(
    seeds: Sequence[Task], settings: SynthSettings, journal: Journal, teacher: Teacher, out: Path, say: Say
) -> SynthResult:
    growth = Growth(seeds, settings, say)
    asker = Asker(settings, journal, teacher)
    try:
        asyncio.run(_ask_all(growth, asker, teacher))
    except KeyboardInterrupt:
        growth = Growth(seeds, settings, lambda text: None)
        asyncio.run(growth.run(Asker(settings, journal, None)))  # what the journal gives without the teacher
        growth.stopped = "interrupted"
        result = _write(growth, journal, out)
        say(f"interrupted: {_kept(result)}; --resume goes on")
        raise
    if asker.failure and not len(journal):
        for name in ("settings.yaml", "journal.jsonl"):  # nothing was begun, and nothing is left behind
            (out / name).unlink(missing_ok=True)
        anew = f"{asker.failure.fix}; then run it again, without --resume, as nothing was begun"
        raise TeacherError(asker.failure.what, fix=anew)
    if asker.failure:
        growth.stopped = asker.failure.what
    result = _write(growth, journal, out)
    if asker.failure:
        raise TeacherError(
            f"{asker.failure.what}; {_kept(result)}", fix=f"{asker.failure.fix}; then go on with --resume"
        )
    if not growth.rows:
        fix = f"see {out / 'report.md'}; another teacher may do better, in another --out"
        more = "give a larger --max-requests or --max-tokens, and go on with --resume"
        raise RunError(f"no row was made: {growth.stopped}", fix=more if asker.ended else fix)
    return result


async def _ask_all(growth: Growth, asker: Asker, teacher: Teacher) -> None:
    async with teacher:
        await growth.run(asker)


def _seeds_for(settings: SynthSettings, say: Say) -> list[Task]:
    """The seeds, if there are any of the language that is asked for."""
    seeds = read_seeds(settings.seeds)
    there = {task.language for task in seeds}
    if settings.language != "both" and settings.language not in there:
        what = f"{settings.seeds} holds no seed task in the language {settings.language}"
        raise ConfigError(what, fix="give other --seeds or another --language")
    if settings.language == "both" and len(there) == 1:
        say(f"all seeds are in one language ({there.copy().pop()}), and so are the tasks that are asked for")
    return seeds


def _write(growth: Growth, journal: Journal, out: Path) -> SynthResult:
    """Write data and reports, each whole or not at all."""
    rows, tasks = growth.rows, growth.tasks
    report: dict[str, Any] = {
        "stopped": growth.stopped,
        "rows": len(rows),
        "tasks": len(tasks),
        "classification_tasks": sum(task.is_classification for task in tasks),
        "languages": {name: sum(task.language == name for task in tasks) for name in ("en", "zh")},
        "instructions_proposed": growth.proposed,
        "unfinished": growth.unfinished,
        "dropped": {
            reason: {"count": count, "examples": growth.dropped.shown[reason]}
            for reason, count in sorted(growth.dropped.counts.items(), key=lambda item: -item[1])
        },
        "requests": dict(journal.requests),
        "prompt_tokens": journal.prompt_tokens,
        "reply_tokens": journal.reply_tokens,
        "requests_with_estimated_tokens": journal.estimated,
    }
    if rows:
        write_rows(out / "data.jsonl", rows, replace=True)
    text = json.dumps(report, ensure_ascii=False, indent=1) + "\n"
    _replace(out / "report.json", lambda path: path.write_text(text, encoding="utf-8"))
    _replace(out / "report.md", lambda path: path.write_text(synth_report(report), encoding="utf-8"))
    return SynthResult(str(out / "data.jsonl") if rows else "", report)


def _kept(result: SynthResult) -> str:
    return f"{result.report['rows']} rows so far are in {result.data}" if result.data else "there is no row so far"


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Write a file that is the old one or the whole new one."""
    beside = path.with_name(f".{path.name}.new")
    write(beside)
    os.replace(beside, path)
