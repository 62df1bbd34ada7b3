"""Adapters on disk, in PEFT's format: `adapter_config.json`, `adapter_model.safetensors`; and our own `graft.json`.

A folder with a manifest is what it says, or is refused; one without, as other software writes it, is taken unproven.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from pydantic import TypeAdapter, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from transformers import PreTrainedModel

from graft.adapters.contract import Adapter, file_name, join
from graft.adapters.methods import METHODS
from graft.adapters.targets import embeddings_name
from graft.errors import AdapterError
from graft.staging import MANIFEST, manifest_fault, write_file
from graft.tensor_file import TensorFile

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PROVENANCE_FILE = "graft.json"
CARD_FILE = "README.md"
Files = dict[str, bytes | TensorFile]
"""The contents of files by their names."""

_LAYER = re.compile(r"\.(\d+)\.")


@dataclass(frozen=True)
class Provenance:
    """What an adapter needs to be used as it was trained.

    Args:
        base_path: the base as the user named it.
        base_dtype: the type that the user chose for its weights, as `model.dtype` names it.
        base_fingerprint: hash of the base's content.
        template: the template file's content, used wherever the adapter is.
        data: which rows it was trained on: path and SHA-256 of the file, and the settings that split it.
        base_quantize, base_double_quant: how the base's linear layers were stored, as `model.quantize` and
            `model.double_quant` name it. A `graft.json` of before there was a choice does not say.
        methods: those of an adapter of several, each in a folder of its own; none of a single one.
    """

    base_path: str
    base_dtype: str
    base_fingerprint: str
    template: dict[str, Any]
    data: dict[str, Any]
    base_quantize: str = "none"
    base_double_quant: bool = True
    methods: list[str] = field(default_factory=list)


def adapter_files(adapter: Adapter, model: PreTrainedModel, provenance: Provenance) -> Files:
    """The files of `adapter` by their names. Its tensors are copied: they stay these, whatever becomes of the adapter.

    Several methods at once lie in folders of their own, by method, each as it would lie alone.

    Raises:
        AdapterError: it holds a value that is no finite number.
    """
    methods = [part.method for part in adapter.parts]
    files: Files = {PROVENANCE_FILE: _json(asdict(replace(provenance, methods=methods)))}
    for part in adapter.parts or (adapter,):
        place = f"{part.method}/" if adapter.parts else ""
        config = METHODS[part.method].peft_config(part, model)
        config["base_model_name_or_path"] = provenance.base_path
        files[place + CONFIG_FILE] = _json(config)
        tensors = {n: tensor.detach().to("cpu", copy=True).contiguous() for n, tensor in _file_tensors(part).items()}
        odd = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
        if odd:
            raise AdapterError(f"the adapter holds values that are no finite numbers: {odd[0]}", fix="lower the rate")
        files[place + WEIGHTS_FILE] = TensorFile(tensors, {"format": "pt"})
    return files


def save_adapter(folder: Path, adapter: Adapter, model: PreTrainedModel, provenance: Provenance) -> None:
    """Write `adapter` into the existing `folder`. The bytes depend on the adapter alone.

    Raises:
        AdapterError: it holds a value that is no finite number.
    """
    for name, content in adapter_files(adapter, model, provenance).items():
        (folder / name).parent.mkdir(exist_ok=True)
        write_file(folder / name, content)


def is_adapter(folder: Path) -> bool:
    """Whether `folder` holds an adapter, of one method or of several."""
    return bool(_places(folder))


def _places(folder: Path) -> list[Path]:
    """The folders that hold an adapter's parts, each of one method."""
    if (folder / CONFIG_FILE).is_file():
        return [folder]
    return [folder / method for method in METHODS if (folder / method / CONFIG_FILE).is_file()]


def _file_tensors(adapter: Adapter) -> dict[str, Tensor]:
    return {
        file_name(place, name): tensor
        for place in sorted(adapter.grafts)
        for name, tensor in sorted(adapter.grafts[place].file_tensors().items())
    }


def write_provenance(folder: Path, provenance: Provenance) -> None:
    """Write `graft.json`, beside an adapter or a model that an adapter was merged into."""
    write_file(folder / PROVENANCE_FILE, _json(asdict(provenance)))


def read_provenance(folder: Path) -> Provenance | None:
    """What `graft.json` says; None for an adapter that other software made."""
    path = folder / PROVENANCE_FILE
    if not path.exists():
        return None
    content = _read_json(path)
    try:
        return TypeAdapter(Provenance).validate_python(asdict(Provenance(**content)))
    except (TypeError, ValidationError):
        raise AdapterError(f"{path} is not what Graft writes", fix="restore it, or delete it") from None


def load_adapter(folder: Path, model: PreTrainedModel, *, base_fingerprint: str | None = None) -> Adapter:
    """Read the adapter in `folder` for `model`.

    Args:
        base_fingerprint: of the model; compared with the one that the adapter was trained on.

    Raises:
        AdapterError: it is missing, empty, broken, asks for what we do not do, or does not fit `model`; all the
            differences are named. Nothing is loaded in part.
    """
    places = _places(folder)
    if not places:
        raise AdapterError(f"{folder} holds no adapter: there is no {CONFIG_FILE}", fix="give the folder that has it")
    _refuse_broken(folder)
    provenance = read_provenance(folder)
    if provenance and base_fingerprint and provenance.base_fingerprint != base_fingerprint:
        raise AdapterError(
            f"{folder} was trained on another base ({provenance.base_path})", fix="give that base with --model"
        )
    _refuse_lost_parts(folder, places, provenance)
    return join(tuple(_load_part(place, model) for place in places), embeddings=embeddings_name(model))


def is_proven(folder: Path) -> bool:
    """Whether a manifest vouches for the adapter in `folder`."""
    return (folder / MANIFEST).exists()


def _refuse_broken(folder: Path) -> None:
    # the card is for people, who edit it; nothing reads it
    if is_proven(folder) and (fault := manifest_fault(folder, but=[CARD_FILE])):
        fix = f"copy or train it again; if you changed it yourself, delete {MANIFEST}, and it is taken unproven"
        raise AdapterError(f"the adapter is broken: {fault}", fix=fix)


def _refuse_lost_parts(folder: Path, places: Sequence[Path], provenance: Provenance | None) -> None:
    """Raise an AdapterError if not all methods of an adapter of several are there."""
    if places != [folder]:
        methods = provenance.methods if provenance else []
        lost = sorted(set(methods) - {place.name for place in places})
        if lost or not methods:
            what = f"{folder} holds a part of an adapter" + (f": {', '.join(lost)} is missing" if lost else "")
            raise AdapterError(what, fix="copy the whole folder again, graft.json with it, or give one method's folder")


def _load_part(folder: Path, model: PreTrainedModel) -> Adapter:
    config = _read_json(folder / CONFIG_FILE)
    method = next((m for m in METHODS.values() if config.get("peft_type") in m.peft_types), None)
    if method is None:
        known = ", ".join(kind for m in METHODS.values() for kind in m.peft_types)
        raise AdapterError(f"{folder}: peft_type {config.get('peft_type')!r} is not known", fix=f"known: {known}")
    tensors = _read_tensors(folder / WEIGHTS_FILE)
    try:
        settings = method.settings_of(config, tensors)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(map(str, fault["loc"]))
        raise AdapterError(f"{folder / CONFIG_FILE}: {where}: {fault['msg']}") from None
    adapter = method.create(model, settings, seed=0)
    _fill(adapter, tensors, folder / WEIGHTS_FILE)
    return adapter


def refill(adapter: Adapter, folder: Path) -> None:
    """Put the tensors that were saved in `folder` into `adapter`.

    Raises:
        AdapterError: they are those of another adapter; all the differences are named.
    """
    for part in adapter.parts or (adapter,):
        path = (folder / part.method if adapter.parts else folder) / WEIGHTS_FILE
        _fill(part, _read_tensors(path), path)


def _fill(adapter: Adapter, tensors: Mapping[str, Tensor], path: Path) -> None:
    expected = _file_tensors(adapter)
    faults = [(name, "is missing") for name in expected if name not in tensors]
    faults += [(name, "has no place in the base") for name in tensors if name not in expected]
    for name in expected.keys() & tensors.keys():
        needed, found = tuple(expected[name].shape), tuple(tensors[name].shape)
        if needed != found:
            faults.append((name, f"has shape {found}, the base needs {needed}"))
        elif not tensors[name].is_floating_point() or not bool(torch.isfinite(tensors[name]).all()):
            faults.append((name, "holds values that are no finite numbers"))
    if faults:
        raise AdapterError(
            f"{path} does not fit the base: {_all_of(faults)}", fix="give the base that it was trained on with --model"
        )
    for place, graft in adapter.grafts.items():
        graft.fill({name: tensors[file_name(place, name)] for name in graft.file_tensors()})


def _all_of(faults: Sequence[tuple[str, str]]) -> str:
    """Every fault, those that are alike in several layers as one: `layers.*.q_proj (0, 1, 2) is missing`."""
    alike: dict[tuple[str, str], list[str]] = {}
    for name, fault in sorted(faults):
        number = _LAYER.search(name)
        kind = _LAYER.sub(".*.", name, count=1), fault
        alike.setdefault(kind, []).append(number.group(1) if number else "")
    said = []
    for (name, fault), numbers in alike.items():
        several = f" ({', '.join(sorted(numbers, key=int))})" if all(numbers) else ""
        said.append(f"{name}{several} {fault}")
    return "; ".join(said)


def _read_tensors(path: Path) -> dict[str, Tensor]:
    if not path.is_file():
        pickled = " (adapter_model.bin is pickle, which is never read)" if path.with_suffix(".bin").exists() else ""
        raise AdapterError(f"{path} is missing{pickled}", fix="save the adapter as safetensors")
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError) as error:
        raise AdapterError(f"{path} is broken: {error}", fix="copy or train it again") from None
    if not tensors:
        raise AdapterError(f"{path} is empty: it holds no tensor", fix="train or copy it again")
    return tensors


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise AdapterError(f"{path} cannot be read: {error}", fix="copy or train the adapter again") from None
    if not isinstance(content, dict):
        raise AdapterError(f"{path} is not a JSON object", fix="copy or train the adapter again")
    return content


def _json(content: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(content, indent=2, ensure_ascii=False)}\n".encode()
