"""What may go to a terminal, or into a file. Rows, file names and models hold anything; none of it may steer what shows
it."""

import re

_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """`text` with what would steer a terminal, or turn the direction of writing, written out."""
    return _STEERING.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def is_unicode(text: str) -> bool:
    """Whether `text` can be written in a file. The name of a file that is not UTF-8 holds halves of surrogate pairs."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
