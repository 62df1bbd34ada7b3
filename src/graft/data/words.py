"""What every template does with messages."""

from collections.abc import Sequence

from graft.errors import DataError
from graft.records import Message


def words_of(message: Message) -> str:
    """A message's words, what they refer to below them."""
    return f"{message.content}\n\n{message.context}" if message.context.strip() else message.content


def trained_of(messages: Sequence[Message]) -> bool | None:
    """Whether a stretch of text that holds these messages is trained, as `Message.trained` has it. What the data take
    out takes those along that nothing is said of.

    Raises:
        DataError: one of them is to be learned and another is not.
    """
    marks = {message.trained for message in messages}
    if True in marks and len(marks) > 1:
        learned, given = (
            ", ".join(dict.fromkeys(m.role for m in messages if (m.trained is True) == which))
            for which in (True, False)
        )
        what = f"the template writes what is to be learned ({learned}) and what is not ({given}) in one stretch of text"
        raise DataError(what, fix="take a template with a turn for each, such as chatml, or give both the same `loss`")
    return True if True in marks else False if False in marks else None
