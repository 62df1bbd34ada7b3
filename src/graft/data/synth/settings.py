"""The settings of `graft synth`, and what of them a run that is gone on with may change."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

import yaml
from pydantic import Field, ValidationError, field_validator

from graft.errors import ConfigError, RunError
from graft.sections import Number, Section, Whole

Language = Literal["en", "zh"]

MAY_CHANGE = frozenset(
    ("teacher", "api_key_env", "count", "max_requests", "max_tokens", "concurrency", "timeout", "retries",
     "retry_seconds", "patience")
)  # fmt: skip
"""Settings that say how far a run goes and how fast, not what it makes."""


class SynthSettings(Section):
    """What is asked, of whom, and how much."""

    teacher: str
    """Address of an OpenAI-compatible server: http://127.0.0.1:8000/v1."""
    model: str = Field(min_length=1)
    """The name by which the server knows the model."""
    seeds: str = ""
    """A file of seed tasks. Empty: those that ship with Graft."""
    language: Literal["en", "zh", "both"] = "both"
    """Of the tasks. both: in turns, as far as the seeds have both."""
    count: Whole = Field(100, gt=0)
    """Rows to make."""
    instances: Whole = Field(3, gt=0, le=20)
    """The most examples that the teacher is asked for with one instruction."""
    most_alike: Number = Field(0.7, ge=0.1, lt=1)
    """The highest ROUGE-L between two instructions of a data set. 0.7, as Self-Instruct."""
    seed: Whole = 42
    """Of the draw of the tasks that the teacher is shown."""
    temperature: Number = Field(0.8, ge=0, le=2)
    """Of new instructions, which are to differ. All else is asked at 0."""
    answer_tokens: Whole = Field(1024, gt=0)
    """Longest reply, in the teacher's tokens. One that is cut there loses its last item."""
    max_requests: Whole = Field(0, ge=0)
    """Replies of the teacher over the whole run, resumed or not; 0: no bound."""
    max_tokens: Whole = Field(0, ge=0)
    """Prompt and reply tokens of the teacher over the whole run; 0: no bound."""
    concurrency: Whole = Field(8, gt=0, le=256)
    """Requests under way at once. It changes no row, but how many tasks are half done when a run stops."""
    timeout: Number = Field(120.0, gt=0)
    """Seconds that one reply may take."""
    retries: Whole = Field(5, ge=0, le=100)
    """How often a request is sent again after 408, 429, 5xx, a timeout or a broken connection."""
    retry_seconds: Number = Field(1.0, gt=0)
    """The first wait before that; each later one is twice as long, drawn between half and all of it."""
    patience: Whole = Field(3, gt=0)
    """Rounds without a new row after which the run stops."""
    api_key_env: str = ""
    """Name of the environment variable that holds the key. The key itself is never written anywhere."""

    @field_validator("teacher")
    @classmethod
    def _address(cls, value: str) -> str:
        """The address up to /v1, whichever way it was given."""
        try:
            parts = urlsplit(value.strip())
            host, _ = parts.hostname, parts.port
        except ValueError as error:
            raise ValueError(f"no address: {error}") from None
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError("an address such as http://127.0.0.1:8000/v1 is due")
        if parts.username or parts.password:
            raise ValueError("a key has no place in the address; name its environment variable with --api-key-env")
        if parts.query or parts.fragment:
            raise ValueError("an address without ? and # is due")
        path = parts.path.rstrip("/").removesuffix("/chat/completions")
        return f"{parts.scheme}://{parts.netloc}{path or '/v1'}"

    @field_validator("api_key_env")
    @classmethod
    def _name(cls, value: str) -> str:
        if value and not value.isidentifier():  # not shown: it may be the key itself
            raise ValueError("the name of an environment variable is due, not a key")
        return value


def build_settings(given: Mapping[str, Any]) -> SynthSettings:
    """The settings with these values.

    Raises:
        ConfigError: one is missing, unknown or does not fit.
    """
    try:
        return SynthSettings.model_validate(dict(given))
    except ValidationError as error:
        raise ConfigError("; ".join(_complaint(e) for e in error.errors()), fix="see `graft synth --help`") from None


def write_settings(path: Path, settings: SynthSettings, made_of: Mapping[str, str]) -> None:
    """Write the settings, and the hashes of what else the run is made of."""
    saved = {**settings.model_dump(), "made_of": dict(made_of)}
    path.write_text(yaml.safe_dump(saved, sort_keys=False, allow_unicode=True), encoding="utf-8")


def read_settings(path: Path) -> tuple[dict[str, Any], dict[str, str]]:
    """What `write_settings` wrote.

    Raises:
        RunError: there is no run, or the file is broken.
    """
    try:
        saved = yaml.safe_load(path.read_text(encoding="utf-8"))
        made_of = saved.pop("made_of")
        return dict(saved), dict(made_of)
    except FileNotFoundError:
        raise RunError(f"{path.parent} holds no run to go on with", fix="leave --resume out to begin one") from None
    except (OSError, ValueError, TypeError, KeyError, AttributeError, yaml.YAMLError) as error:
        raise RunError(f"{path} cannot be read: {error}", fix="begin a new run with another --out") from None


def refuse_changes(
    path: Path, before: SynthSettings, now: SynthSettings, was_made_of: Mapping[str, str], made_of: Mapping[str, str]
) -> None:
    """Raise a RunError that shows every difference which a run that is gone on with may not have."""
    changed = [
        f"{name} was {getattr(before, name)!r} and is {getattr(now, name)!r}"
        for name in SynthSettings.model_fields
        if name not in MAY_CHANGE and getattr(before, name) != getattr(now, name)
    ]
    changed += [f"the {name} are not those of the run" for name in made_of if was_made_of.get(name) != made_of[name]]
    if changed:
        what = f"the settings are not those of the run in {path.parent}: {'; '.join(changed)}"
        raise RunError(what, fix="put them back, or begin a new run with another --out")


def _complaint(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"]).replace("_", "-")
    message = error["msg"].removeprefix("Value error, ")
    return f"--{where}: {message}" if where else message
