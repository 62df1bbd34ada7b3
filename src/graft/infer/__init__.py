"""Layer 2: sampling, the decode engine, and text that comes whole."""

from graft.infer.detokenize import TextStream
from graft.infer.engine import Engine, Request, Token
from graft.infer.sampling import GREEDY, Sampling

__all__ = ["GREEDY", "Engine", "Request", "Sampling", "TextStream", "Token"]
