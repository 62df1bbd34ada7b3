"""Token ids -> text, as they come: a character that takes several tokens appears when it is whole."""

from typing import Protocol

_REPLACEMENT = "\ufffd"


class Decoder(Protocol):
    def decode(self, ids: list[int]) -> str: ...


class TextStream:
    """The text of one answer, piece by piece. The pieces joined are the text of all its tokens.

    Text is given out up to the last token at which it was whole, so later tokens never change what was shown.
    """

    def __init__(self, decoder: Decoder) -> None:
        self._decoder = decoder
        self._context: list[int] = []  # shown already; spacing may depend on it
        self._held: list[int] = []

    def push(self, token: int) -> str:
        """The text that `token` makes whole; "" while a character is incomplete."""
        self._held.append(token)
        text = self._text()
        if not text or text.endswith(_REPLACEMENT):
            return ""
        return self._show(text)

    def flush(self) -> str:
        """What is left at the end, with U+FFFD for a character that never became whole."""
        return self._show(self._text()) if self._held else ""

    def _text(self) -> str:
        return self._decoder.decode(self._context + self._held)[len(self._decoder.decode(self._context)) :]

    def _show(self, text: str) -> str:
        self._context, self._held = self._held, []
        return text
