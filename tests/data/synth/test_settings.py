"""The settings of `graft synth`: each is read, and each is the same after it was saved."""

import inspect
import re
from pathlib import Path

import pytest

import graft.data.synth
from graft.cli_synth import synth
from graft.data.synth.settings import MAY_CHANGE, SynthSettings, build_settings, read_settings, write_settings
from graft.errors import ConfigError, RunError

SAID = {"teacher": "http://127.0.0.1:8000", "model": "wise"}


def test_every_setting_is_read_and_has_a_flag_or_a_reason_for_none() -> None:
    folders = (Path(graft.data.synth.__file__).parent, Path(graft.__file__).parent / "commands")
    source = "".join(path.read_text(encoding="utf-8") for folder in folders for path in folder.glob("*.py"))
    flags = inspect.signature(synth).parameters
    for name in SynthSettings.model_fields:
        assert re.search(rf"settings\.{name}\b", source), name
        assert name in flags or name in ("retry_seconds", "patience"), "these are for the Python API"
    assert SynthSettings.model_fields.keys() >= MAY_CHANGE


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/", "http://127.0.0.1:8000/v1"),
        ("http://127.0.0.1:8000/v1/", "http://127.0.0.1:8000/v1"),
        (" https://api.example.com/v1/chat/completions ", "https://api.example.com/v1"),
        ("https://example.com/compatible-mode/v2", "https://example.com/compatible-mode/v2"),
        ("http://[::1]:8000", "http://[::1]:8000/v1"),
    ],
)
def test_an_address_may_be_given_in_several_ways(given: str, address: str) -> None:
    assert build_settings({**SAID, "teacher": given}).teacher == address


@pytest.mark.parametrize(
    "given", ["", "127.0.0.1:8000", "ftp://x", "http://", "http://x:y", "http://a:b@c", "http://x/v1?k=1", "http://x#y"]
)
def test_what_is_no_address_is_refused(given: str) -> None:
    with pytest.raises(ConfigError, match="--teacher"):
        build_settings({**SAID, "teacher": given})


def test_saved_settings_are_the_same_again(tmp_path: Path) -> None:
    settings = build_settings({**SAID, "seeds": "种子.jsonl", "count": 7})
    write_settings(tmp_path / "settings.yaml", settings, {"seeds": "abc"})
    saved, made_of = read_settings(tmp_path / "settings.yaml")
    assert build_settings(saved) == settings
    assert made_of == {"seeds": "abc"}


@pytest.mark.parametrize("content", ["", "x", "[]", "a: [", "made_of: 3", "teacher: x", "\x00"])
def test_a_broken_file_is_said(content: str, tmp_path: Path) -> None:
    (tmp_path / "settings.yaml").write_text(content)
    with pytest.raises(RunError, match="cannot be read"):
        read_settings(tmp_path / "settings.yaml")
