"""The command `graft data`: look at rows before anything is trained on them."""

from pathlib import Path
from typing import Annotated

import typer

from graft.cli_options import ConfigFile, Data, Format, Json, Model, Settings, given_settings
from graft.config import build_config
from graft.errors import ConfigError, GraftError

data_app = typer.Typer(
    name="data",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="See what would be trained on, token by token, and what is wrong with it.",
    epilog="Exit codes: 0 done, warnings among it; 2 bad input, or rows that `graft train` refuses.",
)


@data_app.command(
    epilog="Example: graft data check --data rows.json --fix clean.jsonl. Exit code 2 where train refuses it."
)
def check(
    model: Model = None,
    data: Data = None,
    format: Format = None,
    held_out: Annotated[
        str | None, typer.Option("--held-out", help="Data to measure on; else the rows that train holds out.")
    ] = None,
    fix: Annotated[Path | None, typer.Option("--fix", help="Where to write a cleaned copy.")] = None,
    drop: Annotated[
        list[str] | None, typer.Option("--drop", help="A check whose rows the copy leaves out too; repeatable.")
    ] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    json: Json = False,
) -> None:
    """Find what is wrong with rows: refused or a warning, with file, line and a way to mend it."""
    given = given_settings({"model.path": model, "data.path": data, "data.format": format}, config, settings)
    from graft.commands import console
    from graft.commands.data import check as run
    from graft.commands.data_display import print_checked

    result = run(build_config(given), held_out=held_out, fix=fix, drop=drop or (), say=console.say)
    if json:
        console.print_json(result.as_json())
    else:
        print_checked(result)
    if not result.passed:
        raise typer.Exit(GraftError.exit_code)


@data_app.command(epilog="Example: graft data show --data rows.json --row 17. A page: --html rows.html")
def show(
    model: Model = None,
    data: Data = None,
    format: Format = None,
    row: Annotated[
        list[int] | None, typer.Option("--row", help="A row by its number, from 1; repeatable. Else the first ones.")
    ] = None,
    html: Annotated[Path | None, typer.Option("--html", help="Write a page with pictures (one file).")] = None,
    config: ConfigFile = None,
    settings: Settings = None,
    json: Json = False,
) -> None:
    """Show rows token by token, trained or not, cut, special; and the figures of the whole data set."""
    given = given_settings({"model.path": model, "data.path": data, "data.format": format}, config, settings)
    from graft.commands import console
    from graft.commands.data_display import print_shown
    from graft.commands.show import show as run

    result = run(build_config(given), numbers=row or (), html=html, say=console.say)
    return console.print_json(result.as_json()) if json else print_shown(result)


@data_app.command(epilog="Example: graft data convert --data rows.json --to messages --out rows.jsonl")
def convert(
    to: Annotated[str, typer.Option("--to", help="The format to write.")],
    out: Annotated[Path, typer.Option("--out", help="The file to write: .jsonl, .json or .csv.")],
    data: Data = None,
    format: Format = None,
    join: Annotated[
        bool, typer.Option("--join", help="Write an input below its instruction where the format has no place for it.")
    ] = False,
    config: ConfigFile = None,
    settings: Settings = None,
    json: Json = False,
) -> None:
    """Write rows in another format: all of them, or nothing where it has no place for what a row says."""
    given = given_settings({"data.path": data, "data.format": format}, config, settings)
    from graft.commands import console
    from graft.commands.assembly import refuse_unread
    from graft.commands.rows import convert as run

    refuse_unread(given, verb="data convert", reads=("data.path", "data.format"))
    result = run(build_config(given).data, to, out, join=join, say=console.say)
    if json:
        return console.print_json(result.as_json())
    return print(f"{result.out}: {result.rows} rows as {result.format}")


@data_app.command(epilog="Example: graft data split --data rows.json --held-out 0.1 --by category --out parts")
def split(
    out: Annotated[Path, typer.Option("--out", help="Folder for train.jsonl and held_out.jsonl.")],
    data: Data = None,
    held_out: Annotated[float, typer.Option("--held-out", help="Share of rows to measure on, in (0, 1).")] = 0.05,
    by: Annotated[str, typer.Option("--by", help="A field of which each value has that share.")] = "",
    seed: Annotated[int, typer.Option("--seed", help="Same seed, same rows.")] = 42,
    config: ConfigFile = None,
    settings: Settings = None,
    json: Json = False,
) -> None:
    """Put rows into two files by what they say: adding rows moves no other, and equal rows stay together."""
    if not 0 < held_out < 1:
        raise ConfigError(f"--held-out {held_out:g} is no share above 0 and below 1", fix="give one, such as 0.05")
    given = given_settings({"data.path": data}, config, settings)
    from graft.commands import console
    from graft.commands.assembly import refuse_unread
    from graft.commands.rows import part as run

    refuse_unread(given, verb="data split", reads=("data.path",))
    result = run(build_config(given).data, out, held_out=held_out, seed=seed, by=by)
    if json:
        return console.print_json(result.as_json())
    return print(f"{result.train}: {result.train_rows} rows\n{result.held_out}: {result.held_out_rows} rows")
