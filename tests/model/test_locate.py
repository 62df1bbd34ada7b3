"""The hub's refusals come from a small server on this machine that answers as the hub does."""

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import pytest

from graft.errors import ModelError
from graft.model.locate import locate

ANSWERS = {"gated": (403, "GatedRepo"), "secret": (401, "RepoNotFound"), "broken": (500, "")}


class Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, code = next(
            (answer for owner, answer in ANSWERS.items() if f"/{owner}/" in self.path), (404, "RepoNotFound")
        )
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    yield server
    server.shutdown()
    server.server_close()


def refusal(path: str) -> ModelError:
    with pytest.raises(ModelError) as error:
        locate(path, weights=True)
    assert path in error.value.what
    return error.value


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert locate(str(tmp_path), weights=True) == tmp_path


def test_home_is_expanded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "llama").mkdir()
    assert locate("~/llama", weights=True) == tmp_path / "llama"


@pytest.mark.parametrize("path", ["nowhere", "./a/b", "../a", "/a/b", "a/b/c", "owner/", "a b/c", ""])
def test_refuses_what_is_neither_a_folder_nor_a_hub_id(
    path: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    error = refusal(path)
    assert "owner/name" in error.what
    assert "config.json" in error.fix


def test_refuses_a_file(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"")
    assert "give the folder" in refusal(str(tmp_path / "model.gguf")).fix


def test_a_gated_model_says_how_to_get_access(hub: ThreadingHTTPServer) -> None:
    error = refusal("gated/llama")
    assert "licence" in error.what
    assert "accept it on the model's page" in error.fix
    assert "hf auth login" in error.fix
    assert "local folder" in error.fix


@pytest.mark.parametrize("path", ["secret/llama", "nobody/nothing"])
def test_an_unknown_or_private_model_says_what_to_check(hub: ThreadingHTTPServer, path: str) -> None:
    error = refusal(path)
    assert "spelling" in error.fix
    assert "hf auth login" in error.fix
    assert "local folder" in error.fix


def test_a_name_that_the_hub_forbids(hub: ThreadingHTTPServer) -> None:
    assert "local folder" in refusal("owner/two--dashes").fix


@pytest.mark.parametrize("why", ["closed", "offline", "broken"])
def test_an_unreachable_hub_is_said_at_once(
    hub: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    if why == "closed":
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    if why == "offline":
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    started = time.monotonic()
    error = refusal("broken/llama")
    assert time.monotonic() - started < 5
    assert "cannot be reached" in error.what
    assert "check the network" in error.fix
    assert "local folder" in error.fix
