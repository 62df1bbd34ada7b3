"""What the data need of a tokenizer."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Protocol


class Codec(Protocol):
    """A tokenizer whose encoding never gives a special token: whoever writes a text can spell none."""

    @property
    def bos_id(self) -> int | None: ...

    @property
    def eos_id(self) -> int: ...

    @property
    def special_tokens(self) -> Mapping[str, int]:
        """Spelling and id of every special token."""
        ...

    @property
    def greedy_tokens(self) -> Mapping[str, tuple[bool, bool]]:
        """Special tokens that take the spaces on their left, or on their right, with them."""
        ...

    @property
    def token_names(self) -> Mapping[str, str]:
        """What templates call special tokens, such as `eos_token`, and their spellings."""
        ...

    def encode_soon(
        self, texts: Sequence[tuple[str, bool]], library: Executor
    ) -> Callable[[], Sequence[Sequence[int]]]:
        """Begin to encode texts; what is returned gives the ids of each, never a special token.

        Args:
            texts: each with whether it begins a sequence, or continues one.
            library: does what needs no Python, while other work is done.
        """
        ...

    def spans(self, text: str, *, first: bool) -> Sequence[tuple[int, int]]:
        """The characters [start, stop) of `text` that each of its tokens stands for; several share a character that
        takes more than one, and what is put before a text may have an empty span or share its first character.

        Args:
            first: as in `encode_soon`.
        """
        ...
