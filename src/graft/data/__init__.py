"""Layer 1: read rows, tell their format, render them with a template, encode ids and mask together, split and mix."""

from graft.data.calls import Answer, read_calls
from graft.data.encode import Encoded, encode_all, encode_conversation, encode_prompt
from graft.data.formats import FORMATS, read_conversations
from graft.data.read import read_rows
from graft.data.sources import content_hash
from graft.data.split import Split, mix, split
from graft.data.template import Template, load_template, template_of

__all__ = [
    "FORMATS",
    "Answer",
    "Encoded",
    "Split",
    "Template",
    "content_hash",
    "encode_all",
    "encode_conversation",
    "encode_prompt",
    "load_template",
    "mix",
    "read_calls",
    "read_conversations",
    "read_rows",
    "split",
    "template_of",
]
