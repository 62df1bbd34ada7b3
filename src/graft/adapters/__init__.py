"""Layer 1: the adapter contract, one file a method, the bank that routes slots, and storage in PEFT's format."""

from graft.adapters.bank import Bank
from graft.adapters.blend import blend
from graft.adapters.contract import Adapter, join
from graft.adapters.methods import METHODS, create_adapter, settings_for
from graft.adapters.storage import (
    CARD_FILE,
    Files,
    Provenance,
    adapter_files,
    is_adapter,
    is_proven,
    load_adapter,
    read_provenance,
    refill,
    save_adapter,
)

__all__ = [
    "CARD_FILE",
    "METHODS",
    "Adapter",
    "Bank",
    "Files",
    "Provenance",
    "adapter_files",
    "blend",
    "create_adapter",
    "is_adapter",
    "is_proven",
    "join",
    "load_adapter",
    "read_provenance",
    "refill",
    "save_adapter",
    "settings_for",
]
