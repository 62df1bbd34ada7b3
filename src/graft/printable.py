"""Texts from elsewhere, as a terminal may be given them."""

import re

_STEERING = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def printable(text: str) -> str:
    """`text` with what would steer a terminal written out: data may hold anything."""
    return _STEERING.sub(lambda match: f"\\x{ord(match[0]):02x}", text)
