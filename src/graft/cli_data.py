"""The command `graft data`: look at rows before anything is trained on them."""

from pathlib import Path
from typing import Annotated

import typer

from graft.cli_options import ConfigFile, Data, Format, Json, Model, Settings, given_settings
from graft.config import build_config
from graft.errors import GraftError

data_app = typer.Typer(
    name="data",
    no_args_is_help=True,
    rich_markup_mode=None,
    help="See what would be trained on, token by token, and what is wrong with it.",
    epilog="Exit codes: 0 done, warnings among it; 2 bad input, or rows that `graft train` refuses.",
)


@data_app.command(
    epilog="Example: graft data check --data rows.json --fix clean.jsonl. Exit code 2 where rows are refused."
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
    if result.refused and fix is None:
        raise typer.Exit(GraftError.exit_code)
