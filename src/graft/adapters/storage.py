"""Adapters on disk, in PEFT's format: `adapter_config.json`, `adapter_model.safetensors`; and our own `graft.json`."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import PreTrainedModel

from graft.adapters.contract import Adapter, Method
from graft.adapters.lora import Lora
from graft.errors import AdapterError

METHODS: dict[str, Method] = {"lora": Lora()}

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PROVENANCE_FILE = "graft.json"
_SHOWN = 8  # differences listed in an error before "and n more"


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
    """

    base_path: str
    base_dtype: str
    base_fingerprint: str
    template: dict[str, Any]
    data: dict[str, Any]
    base_quantize: str = "none"
    base_double_quant: bool = True


def save_adapter(folder: Path, adapter: Adapter, model: PreTrainedModel, provenance: Provenance) -> None:
    """Write `adapter` into the existing `folder`. The bytes depend on the adapter alone.

    Raises:
        AdapterError: it holds a value that is no finite number.
    """
    config = METHODS[adapter.method].peft_config(adapter, model)
    config["base_model_name_or_path"] = provenance.base_path
    _write_json(folder / CONFIG_FILE, config)
    write_provenance(folder, provenance)
    tensors = {name: parameter.detach().cpu().contiguous() for name, parameter in adapter.named_parameters()}
    odd = [name for name, tensor in tensors.items() if not bool(torch.isfinite(tensor).all())]
    if odd:
        raise AdapterError(f"the adapter holds values that are no finite numbers: {odd[0]}", fix="lower the rate")
    save_file(tensors, folder / WEIGHTS_FILE, metadata={"format": "pt"})


def write_provenance(folder: Path, provenance: Provenance) -> None:
    """Write `graft.json`, beside an adapter or a model that an adapter was merged into."""
    _write_json(folder / PROVENANCE_FILE, asdict(provenance))


def read_provenance(folder: Path) -> Provenance | None:
    """What `graft.json` says; None for an adapter that other software made."""
    path = folder / PROVENANCE_FILE
    if not path.exists():
        return None
    content = _read_json(path)
    try:
        return Provenance(**content)
    except TypeError:
        raise AdapterError(f"{path} is not what Graft writes", fix="restore it, or delete it") from None


def load_adapter(folder: Path, model: PreTrainedModel, *, base_fingerprint: str | None = None) -> Adapter:
    """Read the adapter in `folder` for `model`.

    Args:
        base_fingerprint: of the model; compared with the one that the adapter was trained on.

    Raises:
        AdapterError: it is missing, empty, broken, asks for what we do not do, or does not fit `model`; all the
            differences are named. Nothing is loaded in part.
    """
    if not (folder / CONFIG_FILE).is_file():
        raise AdapterError(f"{folder} holds no adapter: there is no {CONFIG_FILE}", fix="give the folder that has it")
    config = _read_json(folder / CONFIG_FILE)
    provenance = read_provenance(folder)
    if provenance and base_fingerprint and provenance.base_fingerprint != base_fingerprint:
        raise AdapterError(
            f"{folder} was trained on another base ({provenance.base_path})", fix="give that base with --model"
        )
    method_name = next((n for n, m in METHODS.items() if m.peft_type == config.get("peft_type")), None)
    if method_name is None:
        known = ", ".join(m.peft_type for m in METHODS.values())
        raise AdapterError(f"{folder}: peft_type {config.get('peft_type')!r} is not known", fix=f"known: {known}")
    method = METHODS[method_name]
    try:
        settings = method.settings_of(config)
    except ValidationError as error:
        fault = error.errors()[0]
        raise AdapterError(f"{folder / CONFIG_FILE}: {fault['loc'][0]}: {fault['msg']}") from None
    adapter = method.create(model, settings, seed=0)
    _fill(adapter, _read_tensors(folder / WEIGHTS_FILE), folder / WEIGHTS_FILE)
    return adapter


def _fill(adapter: Adapter, tensors: Mapping[str, Tensor], path: Path) -> None:
    parameters = dict(adapter.named_parameters())
    faults = [f"missing {name}" for name in parameters if name not in tensors]
    faults += [f"unexpected {name}" for name in tensors if name not in parameters]
    for name in parameters.keys() & tensors.keys():
        expected, found = tuple(parameters[name].shape), tuple(tensors[name].shape)
        if expected != found:
            faults.append(f"{name} has shape {found}, the base needs {expected}")
        elif not tensors[name].is_floating_point() or not bool(torch.isfinite(tensors[name]).all()):
            faults.append(f"{name} holds values that are no finite numbers")
    if faults:
        faults.sort()
        more = f" and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
        raise AdapterError(
            f"{path} does not fit the base: {'; '.join(faults[:_SHOWN])}{more}",
            fix="give the base that it was trained on with --model",
        )
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(tensors[name])


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


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
