"""What a row says, as a number: equal for copies, wherever they stand, and different for all else."""

import hashlib
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from graft.data.calls import as_json
from graft.records import Conversation, Message
from graft.runtime import derived_seed

Keys = NDArray[np.uint64]


def content_key(conversation: Conversation) -> int:
    """64 bits made of all that is said in a conversation, and by whom. Two of 5 million rows agree by chance once in a
    million data sets."""
    return key_of(written(conversation.messages))


def key_of(said: str) -> int:
    """`content_key` of a conversation whose messages say this, as `written` has it."""
    return int.from_bytes(hashlib.blake2b(said.encode("utf-8", "surrogatepass"), digest_size=8).digest(), "little")


def written(messages: Iterable[Message]) -> str:
    """All that messages say, calls and material too, in one text that no other messages give."""
    return listed(map(written_message, messages))


def written_message(message: Message) -> str:
    """A message's part of `written`."""
    calls = ([call.name, call.arguments] for call in message.tool_calls)
    return as_json([message.role, message.content, message.context, *calls])


def listed(parts: Iterable[str]) -> str:
    """The JSON list of what is JSON already."""
    return f"[{', '.join(parts)}]"


def draw(keys: Keys, seed: int) -> Keys:
    """A number drawn for each key: by splitmix64 (Steele et al. 2014), so that a draw is the same on every machine."""
    drawn: Keys = keys + np.uint64(derived_seed(seed, "split"))
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        drawn = (drawn ^ (drawn >> np.uint64(shift))) * np.uint64(factor)
    return drawn ^ (drawn >> np.uint64(31))
