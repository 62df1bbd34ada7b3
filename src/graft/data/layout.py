"""Where in a chat template's rendering the model speaks, and where people's words go."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from graft.data.calls import SYNTAXES, as_json, read_calls
from graft.data.jinja import Jinja
from graft.data.words import words_of
from graft.errors import DataError
from graft.records import Message, ToolCall

Tools = Sequence[Mapping[str, Any]]

_PROBED = ToolCall("probe_a_tool", {"text": "a", "number": 1})
_PROBED_TOOL = {"name": _PROBED.name, "description": "d", "parameters": {"type": "object", "properties": {}}}


@dataclass(frozen=True)
class Part:
    """A part of a rendering: a special token, a text of the template's own, or the place of a message's words.

    Args:
        answer: the number of the assistant's message that it is part of; None for what the model is given.
        said: the number of the message whose words stand here.
    """

    text: str
    answer: int | None
    special: bool = False
    said: int | None = None


@dataclass(frozen=True)
class Span:
    """What the model says of message `number`: [start, stop) of a rendering, the token that ends it included."""

    number: int
    start: int
    stop: int


class Layouts:
    """What the template writes around words, for one tokenizer."""

    def __init__(self, jinja: Jinja) -> None:
        self.jinja = jinja
        self._known: dict[tuple[Any, ...], tuple[str, list[Part]]] = {}
        self._plain_ends: frozenset[str] = frozenset()
        self._syntax: str | None = None

    def of(self, messages: Sequence[Message], tools: Tools, *, asked: bool) -> tuple[str, list[Part]]:
        """The rendering with marks, and its parts; most conversations have one that was seen before."""
        calling = any(message.tool_calls for message in messages)
        if calling:
            self.syntax()  # settles how the template is given arguments
        key = (asked, *((message.role, bool(words_of(message))) for message in messages))
        if not tools and not calling and key in self._known:
            return self._known[key]
        rendering = self.jinja.render(messages, tools, asked=asked, marked=True)
        layout = rendering, self._parts(rendering, messages, tools, asked=asked)
        if not tools and not calling:
            self._known[key] = layout
        return layout

    def ends(self) -> frozenset[str]:
        """The special tokens that end plain answers, the last one and earlier ones, and calls."""
        user, answer = Message("user", "u"), Message("assistant", "a", trained=True)
        call, result = Message("assistant", "", trained=True, tool_calls=(_PROBED,)), Message("tool", "r")
        if not self._plain_ends:
            found = self._ends_in([user, answer])
            self._plain_ends = found
            self._plain_ends = found | self._ends_in([user, answer, user, answer])
        if not self.syntax():
            return self._plain_ends
        return self._plain_ends | self._ends_in([user, call, result, answer], (_PROBED_TOOL,))

    def syntax(self) -> str:
        """How the template writes calls: a call is rendered and read back. "" where it writes none."""
        if self._syntax is None:
            self._syntax = ""
            for self.jinja.arguments_as_text in (False, True):
                written = self._written_call()
                for syntax in SYNTAXES:
                    if _reads_back(written, syntax):
                        self._syntax = syntax
                        return syntax
            self.jinja.arguments_as_text = False
        return self._syntax

    def _written_call(self) -> str:
        """What the template makes of a call, as a model would generate it."""
        messages = [Message("user", "u"), Message("assistant", "", trained=True, tool_calls=(_PROBED,))]
        try:
            rendering = self.jinja.render(messages, (_PROBED_TOOL,), asked=False, marked=True)
            parts = self._parts(rendering, messages, (_PROBED_TOOL,), asked=False)
        except DataError:
            return ""
        return "".join(part.text for part in parts if part.answer is not None and not part.special)

    def _ends_in(self, messages: list[Message], tools: Tools = ()) -> frozenset[str]:
        try:
            rendering = self.jinja.render(messages, tools, asked=False, marked=True)
            spans = self._spans(rendering, messages, tools)
        except DataError:
            if self._plain_ends:
                return frozenset()
            raise
        found = self.jinja.specials.finditer
        return frozenset([*found(rendering, span.start, span.stop)][-1][0] for span in spans)

    def _parts(self, rendering: str, messages: Sequence[Message], tools: Tools, *, asked: bool) -> list[Part]:
        """Cut a rendering at special tokens, at the places of words, and where an answer begins and ends."""
        parts: list[Part] = []

        def cut(start: int, stop: int, answer: int | None) -> None:
            for text, said, special in self.jinja.split(rendering[start:stop]):
                parts.append(Part(text, answer, special, said))

        done = 0
        for span in self._spans(rendering, messages, tools):
            cut(done, span.start, None)
            cut(span.start, span.stop, span.number)
            done = span.stop
        if asked or messages[-1].role != "assistant":  # what stands behind the last answer nobody reads
            cut(done, len(rendering), None)
        return parts

    def _spans(self, rendering: str, messages: Sequence[Message], tools: Tools) -> list[Span]:
        """Where the model speaks: from the end of its prompt to the special token that ends its turn."""
        places = dict(self.jinja.places(rendering))
        for number, message in enumerate(messages):
            if words_of(message) and number not in places:
                raise self.jinja.unfit(f"leaves out what {_named(number, message)} says")
        self._check_tools(rendering, tools)
        spans = []
        for number, message in enumerate(messages):
            if message.role == "assistant":
                start = self._start(rendering, number, messages, tools)
                later = [place.start() for other, place in places.items() if other > number]
                words = places[number].end() if number in places else start
                limit = min((place for place in later if place >= start), default=len(rendering))
                stop = self._stop(rendering, words, limit, number, messages, tools)
                if stop is None or (number in places and places[number].start() < start):
                    what = f"ends {_named(number, message)} with no special token, so no answer would ever end"
                    raise self.jinja.unfit(what)
                spans.append(Span(number, start, stop))
                self._check_calls(rendering[start:stop], message)
        return spans

    def _start(self, rendering: str, number: int, messages: Sequence[Message], tools: Tools) -> int:
        """Where message `number` begins: behind what its prompt has after the last words that it gives."""
        prompt = self.jinja.render(messages[:number], tools, asked=True, marked=True)
        given = self.jinja.places(prompt)
        tail = prompt[given[-1][1].end() :] if given else prompt
        place = dict(self.jinja.places(rendering))[given[-1][0]].end() if given else 0
        last = number == len(messages) - 1  # the whole prompt must be what it will be asked with
        if not rendering.startswith(tail, place) or (last and not rendering.startswith(prompt)):
            what = f"writes something else before {_named(number, messages[number])} than where it asks for it"
            raise self.jinja.unfit(what)
        return place + len(tail)

    def _stop(
        self,
        rendering: str,
        words: int,
        limit: int,
        number: int,
        messages: Sequence[Message],
        tools: Tools,
    ) -> int | None:
        """Behind the special token that ends message `number`, whose words end at `words`."""
        tokens = list(self.jinja.specials.finditer(rendering, words, limit))
        if not messages[number].tool_calls or not tokens:
            return tokens[0].end() if tokens else None
        if not self._plain_ends:
            self.ends()
        for token in tokens:  # a call may have special tokens of its own
            if token[0] in self._plain_ends:
                return token.end()
        closed = self.jinja.render(messages[: number + 1], tools, asked=False, marked=True)
        if rendering.startswith(closed):
            return [token for token in tokens if token.end() <= len(closed)][-1].end()
        alike = next((i for i, (a, b) in enumerate(zip(closed, rendering, strict=False)) if a != b), len(closed))
        return next((token.end() for token in tokens if token.end() > alike), None)

    def _check_tools(self, rendering: str, tools: Tools) -> None:
        clear = self.jinja.clear(rendering)
        for tool in tools:
            if str(tool.get("name", "")) not in clear:
                raise self.jinja.unfit("has no place for tools")

    def _check_calls(self, said: str, message: Message) -> None:
        clear = self.jinja.clear(said)
        for call in message.tool_calls:
            if call.name not in clear and as_json(call.name)[1:-1] not in clear:
                raise self.jinja.unfit("has no place for calls of tools")


def _reads_back(written: str, syntax: str) -> bool:
    try:
        calls = read_calls(written, syntax).calls
    except DataError:
        return False
    return [(call.name, call.arguments) for call in calls] == [(_PROBED.name, _PROBED.arguments)]


def _named(number: int, message: Message) -> str:
    return f"message {number + 1} ({message.role})"
