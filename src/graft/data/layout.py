"""Where in a chat template's rendering the model speaks, and where people's words go."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from graft.data.calls import SYNTAXES, as_json, read_calls
from graft.data.jinja import Jinja, Mark
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
        said: whose words stand here.
    """

    text: str
    answer: int | None
    special: bool = False
    said: Mark | None = None


@dataclass(frozen=True)
class Span:
    """What the model says of message `number`: [start, stop) of a rendering, the token `end` that ends it included; or
    not, where the template writes none behind its last answer."""

    number: int
    start: int
    stop: int
    end: str


class Layouts:
    """What the template writes around words, for one tokenizer."""

    def __init__(self, jinja: Jinja) -> None:
        self.jinja = jinja
        self._known: dict[tuple[Any, ...], tuple[str, list[Part]]] = {}
        self._plain_ends: frozenset[str] = frozenset()
        self._all_ends: frozenset[str] = frozenset()
        self._syntax: str | None = None
        self._showing: dict[tuple[Any, ...], bool] = {}
        self._newest: tuple[object, object, bool, tuple[str, list[Part]]] | None = None

    def of(self, messages: Sequence[Message], tools: Tools, *, asked: bool) -> tuple[str, list[Part]]:
        """The rendering with marks, and its parts; most conversations have one that was seen before."""
        if self._newest and self._newest[0] is messages and self._newest[1] is tools and self._newest[2] == asked:
            return self._newest[3]
        calling = any(message.tool_calls for message in messages)
        if calling:
            self.syntax()  # settles how the template is given arguments
        key = (asked, *((m.role, self.jinja.marked(number, m)) for number, m in enumerate(messages)))
        if not tools and not calling and key in self._known:
            return self._known[key]
        rendering = self.jinja.render(messages, tools, asked=asked, marked=True)
        layout = rendering, self._parts(rendering, messages, tools, asked=asked)
        if not tools and not calling:
            self._known[key] = layout
        self._newest = messages, tools, asked, layout
        return layout

    def ends(self) -> frozenset[str]:
        """The special tokens that end plain answers, the last one and earlier ones, and calls."""
        user, answer, result = Message("user", "u"), Message("assistant", "a"), Message("tool", "r")
        thinking = replace(answer, content="<think>\nt\n</think>\n\na")
        calling = replace(answer, content="", tool_calls=(_PROBED,))
        if not self._plain_ends:
            plain = [[user, answer], [user, thinking], [user, answer, user, answer]]
            self._plain_ends = frozenset().union(*map(self._ends_in, plain))
            self.syntax()
            calls = [[user, calling], [user, calling, result, answer]]
            self._all_ends = self._plain_ends.union(*(self._ends_in(said, (_PROBED_TOOL,)) for said in calls))
        return self._all_ends

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
            spans = self._spans(rendering, messages, tools, asked=False)
        except DataError:
            return frozenset()
        return frozenset(span.end for span in spans)

    def _parts(self, rendering: str, messages: Sequence[Message], tools: Tools, *, asked: bool) -> list[Part]:
        """Cut a rendering at special tokens, at the places of words, and where an answer begins and ends."""
        parts: list[Part] = []

        def cut(start: int, stop: int, answer: int | None) -> None:
            for text, said, special in self.jinja.split(rendering[start:stop]):
                parts.append(Part(text, answer, special, said))

        done = 0
        for span in self._spans(rendering, messages, tools, asked=asked):
            cut(done, span.start, None)
            cut(span.start, span.stop, span.number)
            done = span.stop
            if not rendering.endswith(span.end, span.start, span.stop):
                parts.append(Part(span.end, span.number, special=True))
        if asked or messages[-1].role != "assistant":  # what stands behind the last answer nobody reads
            cut(done, len(rendering), None)
        return self._without_taken_spaces(parts)

    def _without_taken_spaces(self, parts: list[Part]) -> list[Part]:
        """Leave out the template's own spaces that special tokens take with them, as Phi 3's do."""
        greedy = self.jinja.codec.greedy_tokens
        kept = []
        for before, part, after in zip([None, *parts], parts, [*parts[1:], None], strict=False):
            text = part.text
            if not part.special and before and before.special and greedy.get(before.text, (False, False))[1]:
                text = text.lstrip()
            if not part.special and after and after.special and greedy.get(after.text, (False, False))[0]:
                text = text.rstrip()
            if text or part.said:
                kept.append(replace(part, text=text))
        return kept

    def _spans(self, rendering: str, messages: Sequence[Message], tools: Tools, *, asked: bool) -> list[Span]:
        """Where the model speaks: from the end of its prompt to the special token that ends its turn."""
        places = dict(self.jinja.places(rendering))
        for number, message in enumerate(messages):
            if words_of(message) and number not in places:
                raise self.jinja.unfit(f"leaves out what {_named(number, message)} says")
        self._check_tools(rendering, messages, tools, asked=asked)
        said = [n for n, message in enumerate(messages) if message.role == "assistant"]
        spans = [self._span(rendering, places, number, messages, tools) for number in said]
        return [span for span in spans if span]

    def _span(
        self,
        rendering: str,
        places: Mapping[int, re.Match[str]],
        number: int,
        messages: Sequence[Message],
        tools: Tools,
    ) -> Span | None:
        """Where message `number` stands. None for one that the template writes otherwise than it asked for it, now that
        the conversation has gone on: without its thought, say."""
        last = number == len(messages) - 1
        prompt = self.jinja.render(messages[:number], tools, asked=True, marked=True)
        start = self._start(rendering, places, prompt, whole=last)
        if start is None or not self.jinja.thinks(number, messages[number], rendering):
            if last:
                what = f"writes something else before {_named(number, messages[number])} than where it asks for it"
                raise self.jinja.unfit(what)
            return None
        closed = rendering if last else self.jinja.render(messages[: number + 1], tools, asked=False, marked=True)
        words = places.get(number)
        later = [place.start() for other, place in places.items() if other > number and place.start() >= start]
        begin, limit = words.end() if words else start, min(later, default=len(rendering))
        tokens = list(self.jinja.specials.finditer(rendering, begin, limit))
        end = self._end(rendering, closed, tokens, calling=bool(messages[number].tool_calls))
        if not (end or last) or not closed.startswith(prompt + rendering[start : end.start() if end else None]):
            return None
        stop = end.end() if end else len(rendering)
        self._check_calls(rendering[start:stop], messages[number])
        return Span(number, start, stop, end[0] if end else self.jinja.eos)

    def _start(self, rendering: str, places: Mapping[int, re.Match[str]], prompt: str, *, whole: bool) -> int | None:
        """Where an answer to `prompt` begins: behind what the prompt has after the last words in it.

        Args:
            whole: the rendering must begin with all of the prompt.
        """
        given = self.jinja.places(prompt)
        tail = prompt[given[-1][1].end() :] if given else prompt
        place = places[given[-1][0]].end() if given else 0
        fits = rendering.startswith(prompt) if whole else rendering.startswith(tail, place)
        return place + len(tail) if fits else None

    def _end(
        self, rendering: str, closed: str, tokens: Sequence[re.Match[str]], *, calling: bool
    ) -> re.Match[str] | None:
        """Of the special tokens behind an answer's words, the one that ends it.

        Args:
            closed: the rendering up to this answer.
            calling: it calls tools, and a call may have special tokens of its own.
        """
        if not calling or not tokens:
            return tokens[0] if tokens else None
        if not self._plain_ends:
            self.ends()
        if plain := next((token for token in tokens if token[0] in self._plain_ends), None):
            return plain
        within = [token for token in tokens if token.end() <= len(closed)] if rendering.startswith(closed) else []
        if within:
            return within[-1]
        alike = next((i for i, (a, b) in enumerate(zip(closed, rendering, strict=False)) if a != b), len(closed))
        return next((token for token in tokens if token.end() > alike), None)

    def unwritten(self, messages: Sequence[Message], tools: Tools) -> bool:
        """Whether the template writes an answer that is to be learned otherwise than it asked for it."""
        written = {part.answer for part in self.of(messages, tools, asked=False)[1]}
        return any(m.role == "assistant" and m.trained and n not in written for n, m in enumerate(messages))

    def _check_tools(self, rendering: str, messages: Sequence[Message], tools: Tools, *, asked: bool) -> None:
        clear = self.jinja.clear(rendering)
        named = (str(tool["name"]) for tool in tools)
        if tools and not (
            all(name in clear or as_json(name)[1:-1] in clear for name in named) and self._shows_tools(messages, asked)
        ):
            raise self.jinja.unfit("has no place for tools")

    def _shows_tools(self, messages: Sequence[Message], asked: bool) -> bool:
        """Whether the template writes the tools of conversations of this shape: tried with a name that stands nowhere
        else, as a short one does in the template's own words and a called one in its call."""
        shape = (asked, *((m.role, bool(m.content), bool(m.tool_calls)) for m in messages))
        if shape not in self._showing:
            name = self.jinja.nowhere
            try:
                shown = name in self.jinja.render(messages, ({**_PROBED_TOOL, "name": name},), asked=asked, marked=True)
            except DataError:
                shown = True  # it knows the tools that are called, then
            self._showing[shape] = shown
        return self._showing[shape]

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
