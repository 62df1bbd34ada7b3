"""Layer 1: read rows, tell their format, render them with a template, encode ids and mask together, split."""

from graft.data.encode import Encoded, encode_all, encode_conversation, encode_prompt
from graft.data.formats import FORMATS, read_conversations
from graft.data.read import read_rows
from graft.data.split import Split, split
from graft.data.template import Template, load_template, template_of

__all__ = [
    "FORMATS",
    "Encoded",
    "Split",
    "Template",
    "encode_all",
    "encode_conversation",
    "encode_prompt",
    "load_template",
    "read_conversations",
    "read_rows",
    "split",
    "template_of",
]
