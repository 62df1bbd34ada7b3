"""The safetensors files of a model folder: which they are, whether they are whole, what they hold."""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from math import prod
from pathlib import Path
from threading import Event

import torch
from safetensors import SafetensorError, safe_open

from graft.errors import ModelError

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
PICKLES = (".bin", ".pth", ".pt", ".ckpt")
_AT_ONCE = 1 << 20  # bytes
DTYPES = {"F64": torch.float64, "F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


@dataclass(frozen=True, slots=True)
class Survey:
    """What the headers say: how many parameters, and the dtype of most of them."""

    parameters: int
    dtype: torch.dtype


def weight_files(folder: Path) -> list[Path]:
    """The files that transformers will read, in order.

    Raises:
        ModelError: there are none, or not all that the index names, or only pickles, which can run code.
    """
    if (folder / SINGLE).is_file():
        return [folder / SINGLE]
    index = folder / INDEX
    if not index.is_file():
        raise _no_weights(folder)
    try:
        names = sorted(set(json.loads(index.read_bytes())["weight_map"].values()))
        if not names:
            raise ValueError("it names no file")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{index} is not an index of safetensors files", fix="fetch the file again") from error
    if missing := [name for name in names if not (folder / name).is_file()]:
        raise ModelError(
            f"{folder} lacks {len(missing)} of the {len(names)} weight files that {INDEX} names: {', '.join(missing)}",
            fix="fetch the missing files; an interrupted download goes on where it stopped",
        )
    return [folder / name for name in names]


def survey(files: Sequence[Path]) -> Survey:
    """Read the headers, which also proves that no file was cut off.

    Raises:
        ModelError: a file is broken, or the weights are stored quantised.
    """
    count: Counter[str] = Counter()
    for file in files:
        try:
            with safe_open(file, framework="pt") as tensors:
                for name in tensors.keys():  # noqa: SIM118 - not a dictionary
                    tensor = tensors.get_slice(name)
                    count[tensor.get_dtype()] += prod(tensor.get_shape())
        except (SafetensorError, OSError) as error:
            raise ModelError(
                f"{file} ({file.stat().st_size} bytes) is cut off or broken: {error}", fix="fetch the file again"
            ) from error
    stored = max(count, key=lambda dtype: count[dtype], default="")
    if stored not in DTYPES:
        raise ModelError(
            f"{files[0].parent} stores its weights as {stored or 'nothing'}; floating point is needed",
            fix="give the publisher's unquantised model (bfloat16, float16 or float32)",
        )
    return Survey(count.total(), DTYPES[stored])


def digest(files: Sequence[Path]) -> str:
    """SHA-256 over the SHA-256 of each file, in order. Reads all of them, several at a time."""

    given_up = Event()

    def of(file: Path) -> str:
        content_hash = hashlib.sha256()
        with file.open("rb", buffering=0) as content:
            while (piece := content.read(_AT_ONCE)) and not given_up.is_set():
                content_hash.update(piece)
        return content_hash.hexdigest()

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        try:
            return hashlib.sha256("\n".join(pool.map(of, files)).encode()).hexdigest()
        finally:
            given_up.set()  # a signal does not wait for gigabytes


def _no_weights(folder: Path) -> ModelError:
    pickles = sorted(
        file.name for file in folder.iterdir() if file.suffix in PICKLES and file.name != "training_args.bin"
    )
    if pickles:
        return ModelError(
            f"{folder} has its weights only as pickles, which can run code when read: {', '.join(pickles)}",
            fix="take the publisher's safetensors; or, if you trust the files, convert them once: "
            "AutoModelForCausalLM.from_pretrained(FOLDER).save_pretrained(NEW_FOLDER) of transformers",
        )
    return ModelError(
        f"{folder} has a config.json but no weights: neither {SINGLE} nor {INDEX}",
        fix="fetch the model's safetensors files into the folder",
    )
