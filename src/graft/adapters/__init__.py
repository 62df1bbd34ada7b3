"""Layer 1: the adapter contract, one file a method, the bank that routes slots, and storage in PEFT's format."""

from graft.adapters.bank import Bank
from graft.adapters.contract import Adapter
from graft.adapters.storage import METHODS, Provenance, load_adapter, read_provenance, save_adapter

__all__ = ["METHODS", "Adapter", "Bank", "Provenance", "load_adapter", "read_provenance", "save_adapter"]
