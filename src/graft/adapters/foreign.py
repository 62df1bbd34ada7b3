"""What an `adapter_config.json` may ask for that we do not do."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from graft.errors import AdapterError

# Keys that say nothing about the answer. Every other one that a method does not read must be empty or off.
_INERT = {
    "auto_mapping", "base_model_name_or_path", "inference_mode", "peft_type", "peft_version", "revision", "task_type",
}  # fmt: skip


def refuse_foreign(
    peft_config: Mapping[str, Any], read: Collection[str], method: str, *, also: Sequence[str] = ()
) -> None:
    """Raise an AdapterError if `peft_config` sets what is not in `read`, naming every such key."""
    foreign = sorted(k for k, v in peft_config.items() if v and k not in _INERT and k not in read) + list(also)
    if foreign:
        said = ", ".join(f"{key}: {peft_config[key]!r}" for key in foreign)
        raise AdapterError(f"the adapter asks for what {method} here does not do: {said}", fix="convert it with PEFT")


def require(peft_config: Mapping[str, Any], keys: Sequence[str]) -> None:
    """Raise an AdapterError if `peft_config` leaves out one of `keys`, which PEFT always writes: the defaults of PEFT
    are others than ours, so a guess would be wrong in silence."""
    if missing := [key for key in keys if peft_config.get(key) is None]:
        raise AdapterError(
            f"adapter_config.json does not say {', '.join(missing)}", fix="copy or train the adapter again"
        )
