"""What a user names as a model -> the folder that holds it: a local folder, or a hub repository in the local cache."""

import re
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from graft.errors import ModelError
from graft.model.quiet import quiet

HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
TOKENIZER_FILES = ["config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "chat_template*"]
WEIGHT_FILES = ["generation_config.json", "model*.safetensors", "model.safetensors.index.json"]


def locate(path: str, *, weights: bool) -> Path:
    """The folder of the model `path`.

    Args:
        path: a local folder, or a hub id (`owner/name`), which is downloaded once.
        weights: download the weights too, not only the tokenizer.

    Raises:
        ModelError: there is no such folder, or the hub does not give it.
    """
    folder = Path(path).expanduser()
    if path and folder.is_dir():
        return folder
    if path and folder.exists():
        raise ModelError(f"{path} is a file, not the folder of a model", fix="give the folder with its config.json")
    if not HUB_ID.fullmatch(path):
        raise ModelError(
            f"no folder {path!r}, and a hub id has the form owner/name",
            fix="give the folder with the model's config.json, or a hub id",
        )
    return _download(path, weights=weights)


def _download(hub_id: str, *, weights: bool) -> Path:
    wanted = TOKENIZER_FILES + (WEIGHT_FILES if weights else [])
    try:
        with quiet():
            # Whatever lies in subfolders is another format of the same weights.
            return Path(snapshot_download(hub_id, allow_patterns=wanted, ignore_patterns=["*/*"]))
    except GatedRepoError as error:
        raise ModelError(
            f"the publisher of {hub_id} wants its licence accepted before it can be downloaded",
            fix=f"accept it on the model's page on the hub, log in with `hf auth login`, and try again; {_LOCAL}",
        ) from error
    except RepositoryNotFoundError as error:
        raise ModelError(
            f"no folder {hub_id} here, and the hub has no such model, or a private one",
            fix=f"check the spelling; for a private model log in with `hf auth login`; {_LOCAL}",
        ) from error
    except HFValidationError as error:
        raise ModelError(
            f"no folder {hub_id} here, and no hub id: {error}",
            fix="give a local folder, or the id as the hub writes it",
        ) from error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"no folder {hub_id} here, and the hub cannot be reached or refuses: {_reason(error)}",
            fix=f"check the network; HF_HUB_OFFLINE must not be set; {_LOCAL}",
        ) from error


_LOCAL = "or give a local folder with the model"


def _reason(error: BaseException) -> str:
    """The first line of the innermost error: the outer ones repeat advice meant for programmers."""
    while error.__cause__ is not None:
        error = error.__cause__
    return (str(error) or type(error).__name__).splitlines()[0]
