"""Which characters a tokenizer has no tokens for, or others."""

from collections.abc import Callable, Iterator


class Alphabet:
    """Tells the characters that come back from a tokenizer as something else: as a space where SentencePiece writes
    U+2581 for one, as another character where a normalizer is at work, as nothing where a vocabulary ends.

    Args:
        through: gives the text of a text's tokens.
    """

    def __init__(self, through: Callable[[str], str]) -> None:
        self._through = through
        self._kept: set[str] = set()
        self._altered: dict[str, str] = {}

    def altered(self, text: str) -> Iterator[str]:
        """Each such character of `text`, with what it becomes, for messages; each is tried once, between letters."""
        for character in sorted(set(text) - self._kept):
            if character not in self._altered:
                back = self._through(f"a{character}a")
                if back == f"a{character}a":
                    self._kept.add(character)
                    continue
                self._altered[character] = back.removeprefix("a").removesuffix("a")
            yield f"U+{ord(character):04X} becomes {self._altered[character]!r}"
