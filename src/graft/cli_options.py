"""The flags that several verbs have, and the settings that they make."""

from pathlib import Path
from typing import Annotated, Any

import typer

from graft.config import build_config, flatten_settings, parse_settings, read_config

Model = Annotated[str | None, typer.Option("--model", help="Hugging Face folder, hub id, or seedling.")]
Data = Annotated[str | None, typer.Option("--data", help="File, folder or glob of rows, or hub id.")]
Format = Annotated[str | None, typer.Option("--format", help="How rows are read; recognised unless given.")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="YAML file of settings.")]
Settings = Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="One setting; repeatable.")]
Json = Annotated[bool, typer.Option("--json", help="End with one JSON object on standard output.")]


def given_settings(flags: dict[str, Any], config: Path | None, settings: list[str] | None) -> dict[str, Any]:
    """Settings that the user gave: a file's, then flags over them, then `--set` over all."""
    given = flatten_settings(read_config(config)) if config else {}
    given.update({name: value for name, value in flags.items() if value is not None})
    given.update(parse_settings(settings or []))
    build_config(given)  # an unknown or unfit setting is said before anything is loaded
    return given
