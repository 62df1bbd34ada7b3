"""The command `graft synth`: data that a teacher model makes."""

from pathlib import Path
from typing import Annotated

import typer

from graft.cli_options import Json


def synth(
    out: Annotated[Path, typer.Option("--out", help="Folder for data.jsonl, the report and the journal.")],
    teacher: Annotated[str | None, typer.Option("--teacher", help="Address of an OpenAI-compatible server.")] = None,
    model: Annotated[str | None, typer.Option("--model", help="The model's name on that server.")] = None,
    seeds: Annotated[str | None, typer.Option("--seeds", help="File of seed tasks; Graft's own unless given.")] = None,
    language: Annotated[str | None, typer.Option("--language", help="en, zh or both (the default).")] = None,
    count: Annotated[int | None, typer.Option("--count", help="Rows to make; 100 unless given.")] = None,
    instances: Annotated[int | None, typer.Option("--instances", help="Most examples of a task; 3.")] = None,
    max_requests: Annotated[int | None, typer.Option("--max-requests", help="Budget of replies; none.")] = None,
    max_tokens: Annotated[int | None, typer.Option("--max-tokens", help="Budget of tokens, both ways; none.")] = None,
    concurrency: Annotated[int | None, typer.Option("--concurrency", help="Requests under way at once; 8.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option("--api-key-env", help="Name of the environment variable with the key; none.")
    ] = None,
    temperature: Annotated[float | None, typer.Option("--temperature", help="Of new instructions; 0.8.")] = None,
    answer_tokens: Annotated[
        int | None, typer.Option("--answer-tokens", help="Longest reply, in tokens; 1024.")
    ] = None,
    most_alike: Annotated[
        float | None, typer.Option("--most-alike", help="Highest ROUGE-L between instructions; 0.7.")
    ] = None,
    timeout: Annotated[float | None, typer.Option("--timeout", help="Seconds that a reply may take; 120.")] = None,
    retries: Annotated[int | None, typer.Option("--retries", help="How often a request is sent again; 5.")] = None,
    seed: Annotated[int | None, typer.Option("--seed", help="Of what the teacher is shown; 42.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    json: Json = False,
) -> None:
    """Make training data with a teacher model (Self-Instruct): new instructions, examples of them, and a filter."""
    flags = {
        "teacher": teacher,
        "model": model,
        "seeds": seeds,
        "language": language,
        "count": count,
        "instances": instances,
        "max_requests": max_requests,
        "max_tokens": max_tokens,
        "concurrency": concurrency,
        "api_key_env": api_key_env,
        "temperature": temperature,
        "answer_tokens": answer_tokens,
        "most_alike": most_alike,
        "timeout": timeout,
        "retries": retries,
        "seed": seed,
    }
    from graft.commands import console
    from graft.commands.synth import synth as run

    given = {name: value for name, value in flags.items() if value is not None}
    result = run(given, out, resume=resume, say=console.say)
    if json:
        return console.print_json(result.as_json())
    return console.print_synth(result)
