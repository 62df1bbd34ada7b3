"""Layer 1: load a base model and its tokenizer, whole and frozen, and write them back."""

from graft.model.load import SUPPORTED, Base, load_base, load_tokenizer, save_base
from graft.model.positions import positions_in, positions_of
from graft.model.tokenizer import Tokenizer

__all__ = ["SUPPORTED", "Base", "Tokenizer", "load_base", "load_tokenizer", "positions_in", "positions_of", "save_base"]
