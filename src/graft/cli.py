"""The command `graft`: its verbs and flags. The work is in `graft.commands`.

Exit codes: 0 done; 2 bad input or settings; 3 a proof failed, nothing was handed over; 4 the disk is full or fails;
130 and 143 stopped by SIGINT and SIGTERM.
"""

import io
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from graft import __version__
from graft.cli_data import data_app
from graft.cli_options import ConfigFile, Data, Format, Json, Model, Settings, given_settings
from graft.cli_synth import synth
from graft.config import BENCH_ROUNDS, BENCH_ROWS, MAX_NEW_TOKENS, build_config, setting_names
from graft.errors import ConfigError, GraftError, Interrupted, write_error
from graft.signals import StopSignals
from graft.terminal import printable

# The heavy libraries are imported inside the verbs, so that `graft --help` answers at once.

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Fine-tune LLaMA-class models with adapters, with proof.",
    epilog="Exit codes: 0 done; 2 bad input or settings; 3 a proof failed; 4 the disk is full or fails; "
    "130 and 143 stopped by SIGINT and SIGTERM, what was done being saved.",
)
app.add_typer(data_app)
app.command(
    epilog="Example: graft synth --teacher http://127.0.0.1:8000/v1 --model NAME --count 1000 --out runs/synth"
)(synth)

Out = Annotated[Path | None, typer.Option("--out", help="Folder to write; a free one under runs/ unless given.")]
AdapterPath = Annotated[str | None, typer.Option("--adapter", help="Folder of an adapter, or of the run that made it.")]
Tokens = Annotated[int, typer.Option("--max-new-tokens", min=1, help="Longest answer, in tokens.")]


def _say_version(asked: bool) -> None:
    if asked:
        print(f"graft {__version__}")
        raise typer.Exit


Version = Annotated[bool, typer.Option("--version", callback=_say_version, is_eager=True, help="Say the version.")]


@app.callback()
def options(version: Version = False) -> None:
    """Options that need no verb."""


@app.command(epilog="Example: graft demo")
def demo(out: Out = None, json: Json = False) -> None:
    """The main job on what the package ships: check, plan, train, evaluate, merge, prove, report."""
    from graft.commands import console
    from graft.commands.demo import demo as run

    with console.ProgressDisplay() as progress:
        result = run(out or _free("demo"), subscribers=[progress], say=console.say)
    if json:
        return console.print_json(result.as_json())
    console.print_scores(result.evaluation.candidates)
    print(f"report: {result.evaluation.report}")
    return None


@app.command(
    epilog="Settings for --set and --config: " + ", ".join(setting_names()) + ". "
    "Example: graft train --model seedling --data rows.json --out runs/first --set lora.r=8"
)
def train(
    model: Model = None,
    data: Data = None,
    format: Format = None,
    out: Out = None,
    method: Annotated[str | None, typer.Option("--method", help="How the base is adapted.")] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out, and begin none.")] = False,
    allow: Annotated[
        list[str] | None, typer.Option("--allow", metavar="NAME", help="A setting that may have changed; repeatable.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and write nothing.")] = False,
    json: Json = False,
) -> None:
    """Train an adapter on rows of data. The same command again goes on with a run that was broken off."""
    given = given_settings(
        {"model.path": model, "data.path": data, "data.format": format, "method": method}, config, settings
    )
    resolved = build_config(given)
    if resume and out is None:
        raise ConfigError("--resume needs the run to go on with", fix="name its folder with --out")
    from graft.commands import console
    from graft.commands.outlook import outlook
    from graft.commands.resume import folder_of
    from graft.commands.train import train as run

    path = resolved.data.path if isinstance(resolved.data.path, str) else resolved.data.path[0]
    folder = out or folder_of(resolved, re.sub(r"[^\w.-]+", "-", Path(path).stem) or "run", allow or ())
    if dry_run:
        plan = outlook(resolved, folder, resume=resume, allow=allow or ())
        if json:
            return console.print_json(plan.as_json())
        for name, value in plan.as_json().items():
            print(f"{name.replace('_', ' ')}: {value}")
        return None
    with console.ProgressDisplay() as progress:
        result = run(resolved, folder, resume=resume, allow=allow or (), subscribers=[progress], say=console.say)
    if json:
        return console.print_json(result.as_json())
    if result.first_eval_loss is not None and result.best_eval_loss is not None:
        print(f"held-out loss: {result.first_eval_loss:.4f} -> {result.best_eval_loss:.4f}")
    print(f"adapter: {result.adapter} ({result.steps} steps, {result.seconds:.0f} s)")
    return None


@app.command(name="eval", epilog="Example: graft eval --adapter runs/first --merged merged")
def evaluate(
    model: Model = None,
    data: Data = None,
    format: Format = None,
    adapter: AdapterPath = None,
    merged: Annotated[str | None, typer.Option("--merged", help="Folder of a merged model.")] = None,
    base: Annotated[bool, typer.Option("--base/--no-base", help="Score the base as well.")] = True,
    out: Annotated[Path | None, typer.Option("--out", help="Where the report goes (an .html file).")] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    max_new_tokens: Tokens = MAX_NEW_TOKENS,
    json: Json = False,
) -> None:
    """Score base, adapter and merged model on held-out rows: those of the adapter's run, or all of --data."""
    given = given_settings({"model.path": model, "data.path": data, "data.format": format}, config, settings)
    from graft.commands import console
    from graft.commands.eval import evaluate as run

    report = out or _free("eval", suffix=".html")
    result = run(
        given,
        report=report,
        base=base,
        adapter=adapter,
        merged=merged,
        max_new_tokens=max_new_tokens,
        say=console.say,
    )
    if json:
        return console.print_json(result.as_json())
    console.print_scores(result.candidates)
    print(f"report: {result.report}")
    return None


@app.command(epilog="Example: graft merge --adapter runs/first --out merged")
def merge(
    adapters: Annotated[
        list[str], typer.Option("--adapter", help="Folder of an adapter, or of the run that made it; may stand often.")
    ],
    out: Annotated[Path, typer.Option("--out", help="Folder to write the merged model to.")],
    weights: Annotated[
        list[float] | None, typer.Option("--weight", help="Of what each adapter changes, where there are several.")
    ] = None,
    model: Model = None,
    config: ConfigFile = None,
    settings: Settings = None,
    json: Json = False,
) -> None:
    """Merge adapters into their base; handed over only if it answers as base and adapters did."""
    given = given_settings({"model.path": model}, config, settings)
    from graft.commands import console
    from graft.commands.merge import merge as run

    result = run(adapters, out, weights=weights or (), settings=given)
    if json:
        return console.print_json(result.as_json())
    print(f"proof: {result.proof}\nmerged: {result.merged}")
    return None


@app.command(epilog="Example: graft chat --adapter runs/first")
def chat(
    model: Model = None,
    adapter: AdapterPath = None,
    prompt: Annotated[str | None, typer.Option("--prompt", help="Answer this and leave; else talk.")] = None,
    input: Annotated[str, typer.Option("--input", help="Material that goes with --prompt.")] = "",
    temperature: Annotated[float, typer.Option("--temperature", help="0 takes the most likely token.")] = 0.0,
    top_p: Annotated[float, typer.Option("--top-p", help="Share of probability kept, in (0, 1].")] = 1.0,
    top_k: Annotated[int, typer.Option("--top-k", help="Tokens kept; 0 for all.")] = 0,
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same answer.")] = 0,
    max_new_tokens: Tokens = MAX_NEW_TOKENS,
    config: ConfigFile = None,
    settings: Settings = None,
    json: Json = False,
) -> None:
    """Talk to a model in the terminal. `stop` leaves, `clear` wipes the screen."""
    given = given_settings({"model.path": model}, config, settings)
    from graft.commands import console
    from graft.commands.chat import converse, load
    from graft.infer import Sampling

    if json and prompt is None:
        raise ConfigError("--json needs one question", fix="give it with --prompt")
    sampling = Sampling(temperature, top_k, top_p, seed)
    assistant = load(adapter=adapter, settings=given)
    if prompt is None:
        return converse(assistant, sys.stdin, sys.stdout, sampling=sampling, max_new_tokens=max_new_tokens)
    pieces = assistant.stream(prompt, input, sampling=sampling, max_new_tokens=max_new_tokens)
    if json:
        return console.print_json({"answer": "".join(pieces)})
    for piece in pieces:
        print(printable(piece), end="", flush=True)
    print()
    return None


@app.command(
    epilog="Peers: trainer-bf16, trainer-bf16-grouped, trainer-fp32, sft-bf16; trainer-fp32-grouped, sft-fp32. "
    "Example: graft bench --model seedling --data rows.json --rows 64 --peers trainer-fp32"
)
def bench(
    model: Model = None,
    data: Data = None,
    rows: Annotated[int, typer.Option("--rows", min=0, help="Rows used, from the first; 0 for all.")] = BENCH_ROWS,
    out: Out = None,
    peers: Annotated[str | None, typer.Option("--peers", help="Names with commas between; the first four.")] = None,
    rounds: Annotated[int, typer.Option("--rounds", min=1, help="Turns that each contender takes.")] = BENCH_ROUNDS,
    config: ConfigFile = None,
    settings: Settings = None,
    json: Json = False,
) -> None:
    """Measure speed and memory against peft with transformers and TRL: same rows, model and LoRA, in turns."""
    given = given_settings({"model.path": model, "data.path": data}, config, settings)
    from graft.bench import BY_DEFAULT
    from graft.commands import console
    from graft.commands.bench import bench as run

    names = list(BY_DEFAULT) if peers is None else [name.strip() for name in peers.split(",") if name.strip()]
    folder = out or _free("bench")
    result = run(given, out=folder, peers=list(dict.fromkeys(names)), rows=rows, rounds=rounds, say=console.say)
    if json:
        return console.print_json(result.as_json())
    console.print_bench(result)
    print(f"figures and picture: {folder}")
    return None


def main() -> None:
    """Run a verb; errors that a user can mend are said in one message, without a traceback."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that cannot show a character shows another
    try:
        with StopSignals():
            app()
    except (GraftError, Interrupted) as error:
        _fail(str(error), error.exit_code, at_once=isinstance(error, Interrupted) and error.at_once)
    except (RuntimeError, MemoryError) as error:
        from graft.runtime import is_out_of_memory, said_by_allocator

        if not is_out_of_memory(error):
            raise
        way = "close other programs, or take less: lower train.max_tokens, train.recompute=1, model.quantize=nf4"
        _fail(f"memory does not do: {said_by_allocator(error)}\n  -> {way}", GraftError.exit_code)
    except OSError as error:
        code = write_error("", error, fix="").exit_code
        _fail(f"{error.filename or 'the machine'}: {error.strerror or error}", code)


def _fail(message: str, code: int, *, at_once: bool = False) -> None:
    print(f"graft: {printable(message)}", file=sys.stderr)
    if "--json" in sys.argv:
        from graft.commands.console import print_json

        print_json({"error": message, "exit_code": code})
    if at_once:  # not even for the threads of a library, such as those of a download
        with suppress(OSError):
            sys.stdout.flush()
        os._exit(code)
    sys.exit(code)


def _free(name: str, suffix: str = "") -> Path:
    """The first of runs/NAME, runs/NAME-2, ... that is not there yet."""
    path, number = Path("runs") / f"{name}{suffix}", 1
    while path.exists():
        number += 1
        path = Path("runs") / f"{name}-{number}{suffix}"
    return path
