"""Formats whose rows ask once and answer once, and plain text."""

from collections.abc import Iterator

from graft.data.formats.contract import Fields, Format, Learns, Talk, list_at, text_at
from graft.records import Message

SUMMARIZE = "Summarize this dialog:"
"""What llama-recipes asks of SAMSum's dialogues; with the template samsum the prompt is its own to the letter."""


def _pair(ask: str, answer: str, *, context: str = "") -> Format:
    """Rows with a question under `ask` and an answer under `answer`.

    Args:
        context: the key of what the question refers to.
    """

    def read(fields: Fields, learns: Learns) -> Talk:
        asked, answered = text_at(fields, ask), text_at(fields, answer)
        material = text_at(fields, context, needed=False) if context else ""
        question = learns.message("user", asked, context=material)
        return Talk([*_before(fields, learns), question, learns.message("assistant", answered)])

    return Format((ask, answer), (*filter(None, [context]), "system", "history"), read)


def _before(fields: Fields, learns: Learns) -> Iterator[Message]:
    """The system message and the earlier turns of a row, `[[question, answer], ...]`, where it has them."""
    if system := text_at(fields, "system", needed=False):
        yield learns.message("system", system)
    for turn in list_at(fields, "history"):
        if not isinstance(turn, list) or len(turn) != 2:
            raise ValueError("`history` is not a list of pairs [question, answer]")
        said = dict(zip(("question", "answer"), turn, strict=True))
        yield learns.message("user", text_at(said, "question"))
        yield learns.message("assistant", text_at(said, "answer"))


def _samsum(fields: Fields, learns: Learns) -> Talk:
    question = learns.message("user", SUMMARIZE, context=text_at(fields, "dialogue"))
    return Talk([question, learns.message("assistant", text_at(fields, "summary"))])


def _text(fields: Fields, learns: Learns) -> Talk:
    return Talk([learns.message("text", text_at(fields, "text"), own=True)])


PAIRS: dict[str, Format] = {
    "alpaca": _pair("instruction", "output", context="input"),
    "dolly": _pair("instruction", "response", context="context"),
    "prompt-response": _pair("prompt", "response"),
    "prompt-completion": _pair("prompt", "completion"),
    "samsum": Format(("dialogue", "summary"), (), _samsum),
    "input-target": _pair("input", "target"),
    "text": Format(("text",), (), _text),
}
