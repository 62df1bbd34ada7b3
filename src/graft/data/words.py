"""What every template does with messages."""

from collections.abc import Sequence

from graft.records import Message


def words_of(message: Message) -> str:
    """A message's words, what they refer to below them."""
    return f"{message.content}\n\n{message.context}" if message.context.strip() else message.content


def trained_of(messages: Sequence[Message]) -> bool | None:
    """Whether a stretch of text that holds these messages is trained, as `Message.trained` has it."""
    marks = {message.trained for message in messages}
    return True if True in marks else False if marks == {False} else None
