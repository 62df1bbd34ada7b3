"""Layer 1: read rows, tell their format, render them with a template, encode ids and mask together, split and mix."""

from graft.data.cache import content_hash
from graft.data.calls import Answer, read_calls
from graft.data.corpus import Corpus, lengths_of
from graft.data.encode import encode_conversation, encode_prompt
from graft.data.encoder import Encoded, Encoder, encode_all
from graft.data.formats import FORMATS, read_conversations
from graft.data.read import read_rows
from graft.data.split import hold_out
from graft.data.template import Template, load_template, template_of

__all__ = [
    "FORMATS",
    "Answer",
    "Corpus",
    "Encoded",
    "Encoder",
    "Template",
    "content_hash",
    "encode_all",
    "encode_conversation",
    "encode_prompt",
    "hold_out",
    "lengths_of",
    "load_template",
    "read_calls",
    "read_conversations",
    "read_rows",
    "template_of",
]
