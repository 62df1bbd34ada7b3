"""What every template does with messages."""

from collections.abc import Sequence

from graft.records import Message, Piece

Said = tuple[str, Message | None]
"""A text, and the message whose words it is; None for the template's own."""


def words_of(message: Message) -> str:
    """A message's words, what they refer to below them."""
    return f"{message.content}\n\n{message.context}" if message.context.strip() else message.content


def piece_of(texts: Sequence[Said]) -> Piece:
    """One stretch of text: each message's words are marked as it is. The template's own count as given, or as taken out
    where all the words in it are."""
    spoken = [message.trained for _, message in texts if message]
    own = False if spoken and all(mark is False for mark in spoken) else None
    marks = [(len(text), message.trained if message else own) for text, message in texts if text]
    last = spoken[-1] if spoken else None
    alike = all(mark == last for _, mark in marks)
    return Piece("".join([text for text, _ in texts]), last, marks=() if alike else tuple(marks))
