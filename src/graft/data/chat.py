"""Chat templates in Jinja: conversations -> pieces.

The template is rendered with a mark in the place of every message's words, and the words are put in afterwards, so that
no word can become a special token or shift the mask. Decision 0016 says why so.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

from graft.data.calls import Answer, read_calls
from graft.data.codec import Codec
from graft.data.jinja import Jinja, Mark
from graft.data.layout import Layouts, Part, Tools
from graft.data.words import Said, piece_of
from graft.records import Conversation, Message, Piece


@dataclass(frozen=True)
class ChatTemplate:
    """A template in Jinja, as models bring it.

    Args:
        source: its text. A comment `tokens: ...` names special tokens that a tokenizer must have for it.
        name: for messages.
    """

    source: str
    name: str = field(default="", compare=False)
    _layouts: dict[int, Layouts] = field(default_factory=dict, compare=False, repr=False)

    adds_bos = False  # it writes the opening itself, or means none

    def content(self) -> dict[str, Any]:
        """What is stored with an adapter; `template_of` reads it back."""
        return {"jinja": self.source}

    def samples(self, conversation: Conversation, codec: Codec) -> list[Conversation]:
        """Several where the template writes an answer otherwise once the conversation goes on: one for each answer,
        which comes last in it, and one for what may be learned behind the last. What they have in common is computed
        once in training."""
        messages = conversation.messages
        if not self._of(codec).unwritten(messages, conversation.tools):
            return [conversation]
        ends = [n for n, message in enumerate(messages, 1) if message.role == "assistant" and message.trained]
        if any(message.trained is not False for message in messages[ends[-1] :]):
            ends.append(len(messages))
        known = [replace(message, trained=False) for message in messages]
        return [
            replace(conversation, messages=(*known[:start], *messages[start:end]))
            for start, end in pairwise([0, *ends])
        ]

    def render(self, conversation: Conversation, codec: Codec) -> list[Piece]:
        """A piece for each special token, each stretch of prompt and each answer."""
        return self._pieces(conversation.messages, conversation.tools, codec, asked=False)

    def prompt(self, messages: Sequence[Message], tools: Tools, codec: Codec) -> list[Piece]:
        """The pieces up to where the model answers the last message."""
        return self._pieces(messages, tools, codec, asked=True)

    def stops(self, codec: Codec) -> frozenset[int]:
        """The special tokens with which the model ends what it says."""
        return frozenset(codec.special_tokens[text] for text in self._of(codec).ends())

    def read_answer(self, text: str, codec: Codec) -> Answer:
        """The words and the calls in a generated text."""
        return read_calls(text, self._of(codec).syntax())

    def _pieces(self, messages: Sequence[Message], tools: Tools, codec: Codec, *, asked: bool) -> list[Piece]:
        layouts = self._of(codec)
        rendering, parts = layouts.of(messages, tools, asked=asked)
        return _fill(parts, messages, layouts.jinja.said(rendering, messages, tools, asked=asked))

    def _of(self, codec: Codec) -> Layouts:
        if id(codec) not in self._layouts:
            self._layouts[id(codec)] = Layouts(Jinja(self.source, self.name or "of the model", codec))
        return self._layouts[id(codec)]


def _fill(parts: Sequence[Part], messages: Sequence[Message], said: Mapping[Mark, str]) -> list[Piece]:
    """Put the words in. What stands between special tokens and the borders of answers is one text."""
    pieces: list[Piece] = []
    texts: list[Said] = []
    answer: int | None = None

    def flush() -> None:
        if any(text for text, _ in texts):
            pieces.append(piece_of(texts))
        texts.clear()

    for part in parts:
        if part.special or part.answer != answer:
            flush()
        answer = part.answer
        speaker = None if answer is None else messages[answer]
        if part.special:
            closed = pieces[-1].trained if pieces and not pieces[-1].special else None
            pieces.append(Piece(part.text, speaker.trained if speaker else closed, special=True))
        elif part.said is not None:
            texts.append((said[part.said], speaker or messages[part.said[0]]))
        else:
            texts.append((part.text, speaker))
    flush()
    return pieces
