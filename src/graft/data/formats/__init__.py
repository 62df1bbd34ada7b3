"""Rows -> conversations: one function a format, registered by name, recognised by its keys."""

from graft.data.formats.contract import Format
from graft.data.formats.recognise import FORMATS, read_conversations, read_each, recognise

__all__ = ["FORMATS", "Format", "read_conversations", "read_each", "recognise"]
