"""What a person sees while a verb works, and the one JSON object that a machine reads."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from graft.commands.bench import BenchResult
from graft.commands.synth import SynthResult
from graft.evaluation import Score
from graft.report import BENCH_COLUMNS, COLUMNS, bench_cells, cells
from graft.terminal import printable
from graft.training import Event, Saved, Started, Stepped, Warned

_LINES = 20  # progress lines of a whole run where the output is no terminal


class _People(Console):
    """Standard error. Where nobody reads it any more the work goes on: rich would end it, and close standard output."""

    def on_broken_pipe(self) -> None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())


people = _People(stderr=True, highlight=False, soft_wrap=True)


def say(text: str) -> None:
    """A line for people. It goes to standard error; standard output carries results alone."""
    with suppress(OSError):  # of a terminal that is gone
        people.print(printable(text), markup=False)


def print_json(result: Mapping[str, Any]) -> None:
    """The last line of standard output, for machines."""
    print(json.dumps(result, ensure_ascii=False, allow_nan=False), flush=True)


def print_scores(scores: Mapping[str, Score]) -> None:
    """The candidates side by side."""
    _print_table(COLUMNS, {name: cells(figures.as_json()) for name, figures in scores.items()})


def print_bench(result: BenchResult) -> None:
    """The contenders side by side, and the peers that did not take part."""
    speed_ups = result.speed_ups()
    rows = {name: bench_cells(figures.as_json(), speed_ups.get(name)) for name, figures in result.contenders.items()}
    _print_table(BENCH_COLUMNS, rows)
    for name, reason in {**result.missing, **result.failed}.items():
        print(f"{name}: no figures: {reason}")


def print_synth(result: SynthResult) -> None:
    """What was made, and what was left out for which reason."""
    report = result.report
    for reason, dropped in report["dropped"].items():
        print(f"left out: {dropped['count']:,} {reason}, such as {dropped['examples'][0]!r}")
    tokens = report["prompt_tokens"] + report["reply_tokens"]
    print(f"{sum(report['requests'].values()):,} replies, {tokens:,} tokens; stopped: {report['stopped']}")
    print(f"data: {result.data} ({report['rows']:,} rows of {report['tasks']:,} tasks)")


def _print_table(columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> None:
    table = Table(box=None, pad_edge=False)
    table.add_column("", no_wrap=True)
    for column in columns:
        table.add_column(column, justify="right")
    for name, row in rows.items():
        table.add_row(name, *row)
    Console(highlight=False, width=None if sys.stdout.isatty() else 100).print(table)


class ProgressDisplay:
    """Rate, loss, learning rate and time left: a live bar on a terminal, some lines elsewhere.

    A context: whatever ends it, the terminal is left as it was.
    """

    def __init__(self) -> None:
        columns = ("{task.description}", "{task.fields[figures]}")
        self._bar = Progress(
            TextColumn(columns[0]), BarColumn(), MofNCompleteColumn(), TextColumn(columns[1]), TimeRemainingColumn(),
            console=people,
        )  # fmt: skip
        self._task = self._bar.add_task("training", total=None, figures="")
        self._total = 0
        self._began: tuple[int, float] | None = None

    def __enter__(self) -> "ProgressDisplay":
        return self

    def __exit__(self, *_: object) -> None:
        if people.is_terminal:
            self._bar.stop()

    def __call__(self, event: Event) -> None:
        if isinstance(event, Started):
            self._start(event)
        elif isinstance(event, Stepped):
            self._step(event)
        elif isinstance(event, Warned):
            say(f"warning: {event}")
        elif isinstance(event, Saved) and not people.is_terminal:
            say(f"step {event.step}: checkpoint {event.folder}")

    def _start(self, event: Started) -> None:
        self._total = event.total_steps
        if event.held_out_loss is not None:
            say(f"held-out loss before training: {event.held_out_loss:.4f}")
        if people.is_terminal:
            self._bar.update(self._task, total=event.total_steps, completed=event.step)
            self._bar.start()

    def _step(self, event: Stepped) -> None:
        first_step, first_time = self._began or (event.step, event.time)
        self._began = (first_step, first_time)
        seconds = event.time - first_time
        rate = (event.step - first_step) / seconds if seconds else 0.0
        loss = "left out" if event.loss is None else f"loss {event.loss:.4f}"
        figures = f"{loss}  lr {event.lr:.2e}  {rate:.2f} steps/s"
        if event.held_out_loss is not None:
            figures += f"  held-out loss {event.held_out_loss:.4f}"
        for name, figure in (event.held_out or {}).items():
            figures += f"  {name} {figure:.4f}"
        if people.is_terminal:
            self._bar.update(self._task, completed=event.step, figures=figures)
        elif event.step % max(1, self._total // _LINES) == 0 or event.step == self._total:
            left = (self._total - event.step) / rate if rate else 0.0
            say(f"step {event.step}/{self._total}  {figures}  {left:.0f} s left")
