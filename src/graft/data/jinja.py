"""A chat template in Jinja, rendered with marks where people's words go, in a sandbox."""

import re
import secrets
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from jinja2.exceptions import TemplateError

from graft.data.calls import as_json
from graft.data.codec import Codec
from graft.data.sandbox import compiled, rendered
from graft.data.words import words_of
from graft.errors import DataError
from graft.records import Message

_BROKEN = (
    TemplateError,
    ArithmeticError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    RecursionError,
    MemoryError,
)
_TODAY = """{%- macro strftime_now(format) -%}
{{- {"%d %B %Y": "26 July 2024", "%Y-%m-%d": "2024-07-26"}.get(format, "26 Jul 2024") -}}
{%- endmacro -%}
"""
"""The day that Llama 3's templates fall back on: a sample has the same ids whenever it is encoded."""


Mark = tuple[int, str]
"""The number of a message, and which of its texts: its words, or what it thinks before them."""

_WORDS, _THOUGHT = "w", "t"
_THINKS = re.compile(r"\s*<think>\s*")


class Thought(NamedTuple):
    """An answer that thinks first, in four parts that are the whole of it."""

    opening: str
    thought: str
    closing: str
    words: str


class Jinja:
    """One template and one tokenizer.

    A rendering has a mark for the words of each message. Strings in tools and calls are rendered as they are, as a
    template writes them as JSON or otherwise, but a special token that one spells is broken by a guard. Marks and
    guards hold a number drawn for this object, so no text of the data has one.

    Attributes:
        nowhere: a word that stands in no template and no text.
        arguments_as_text: give the template the arguments of calls as JSON text, where it would print an object of
            Python's.

    Raises:
        DataError: the tokenizer lacks tokens that the template names.
    """

    def __init__(self, source: str, name: str, codec: Codec) -> None:
        self.codec = codec
        self.arguments_as_text = False
        self._name = name
        self._source = (_TODAY if "strftime_now" in source else "") + source
        spellings = sorted(filter(None, codec.special_tokens), key=len, reverse=True)
        self.specials = re.compile("|".join(map(re.escape, spellings)))
        if missing := [token for token in _needed(source) if token not in codec.special_tokens]:
            what = f"the template {name} needs the special tokens {' '.join(missing)}, and the tokenizer lacks them"
            raise DataError(what, fix="take a base that has them, or another data.template, such as alpaca")
        drawn = f"z{secrets.token_hex(8)}"
        self._mark, self._guard = f"{drawn}m", f"{drawn}g"
        self.nowhere = f"{drawn}n"
        self._places = re.compile(rf"{self._mark}(\d+)([{_WORDS}{_THOUGHT}])")
        self._split = re.compile(rf"{self._places.pattern}|{self.specials.pattern}")
        self._reasons = "</think>" in source
        self.eos = next(text for text, id in codec.special_tokens.items() if id == codec.eos_id)
        bos = next((text for text, id in codec.special_tokens.items() if id == codec.bos_id), "")
        self._tools: tuple[object, list[dict[str, Any]]] = None, []
        self._names = {**codec.token_names, "opening": bos, "date_string": "26 Jul 2024"}

    def render(
        self, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, asked: bool, marked: bool
    ) -> str:
        """What the template makes of a conversation.

        Args:
            asked: the model is to answer now.
            marked: with marks in the place of words.
        """
        try:
            if tools is not self._tools[0]:  # the same tools are rendered several times over
                self._tools = tools, [{"type": "function", "function": self._guarded(tool)} for tool in tools]
            values = {
                **self._names,
                "messages": self._described(messages, marked),
                "tools": self._tools[1] or None,
                "documents": None,
                "add_generation_prompt": asked,
            }
            return rendered(compiled(self._source), values)
        except _BROKEN as error:
            reason = " ".join(str(error).split()) or type(error).__name__
            raise self.unfit(f"cannot render this conversation: {reason}") from None

    def places(self, rendering: str) -> list[tuple[int, re.Match[str]]]:
        """Messages, by number, and the places of their words, in the order of the text."""
        found = [((int(place[1]), place[2]), place) for place in self._places.finditer(rendering)]
        if len(dict(found)) < len(found):
            raise self.unfit("says a message twice")
        return [(number, place) for (number, kind), place in found if kind == _WORDS]

    def marked(self, number: int, message: Message) -> str:
        """A message's content with marks in the place of its words. The tags around a thought stay, as a template that
        knows them takes thought and words apart by them."""
        thought = self._thought(message)
        words = f"{self._mark}{number}{_WORDS}" if words_of(message) else ""
        return f"{thought.opening}{self._mark}{number}{_THOUGHT}{thought.closing}{words}" if thought else words

    def thinks(self, number: int, message: Message, rendering: str) -> bool:
        """Whether the rendering has what the message thinks, if it thinks."""
        return not self._thought(message) or f"{self._mark}{number}{_THOUGHT}" in rendering

    def split(self, rendering: str) -> Iterator[tuple[str, Mark | None, bool]]:
        """The parts of a rendering: its text, or whose words stand there, and whether it is a special token."""
        done = 0
        for match in self._split.finditer(rendering):
            if match.start() > done:
                yield self.clear(rendering[done : match.start()]), None, False
            yield (match[0], None, True) if match[1] is None else ("", (int(match[1]), match[2]), False)
            done = match.end()
        if done < len(rendering):
            yield self.clear(rendering[done:]), None, False

    def said(
        self, rendering: str, messages: Sequence[Message], tools: Sequence[Mapping[str, Any]], *, asked: bool
    ) -> dict[Mark, str]:
        """The words at each mark, as the template writes them: it may trim them, or make them JSON.

        The template is rendered once more, with the words in their places: nothing is trained that it would not write.
        """
        real = self.render(messages, tools, asked=asked, marked=False)
        first, *rest = self._places.split(rendering)
        place, said = len(first), dict[Mark, str]()
        if not real.startswith(first):
            raise self.unfit("writes something else around these words than around others")
        for number, kind, after in zip(map(int, rest[::3]), rest[1::3], rest[2::3], strict=True):
            thought = self._thought(messages[number])
            text = thought.thought if thought and kind == _THOUGHT else thought.words if thought else None
            text = words_of(messages[number]) if text is None else text
            forms = (form for form in _forms(text) if real.startswith(form + after, place))
            form = next(forms, None)
            if form is None:
                named = f"message {number + 1} ({messages[number].role})"
                raise self.unfit(f"writes {named} otherwise than it reads: what it says steers the template")
            said[number, kind] = form
            place += len(form) + len(after)
        if place != len(real):
            raise self.unfit("writes something else around these words than around others")
        return said

    def clear(self, text: str) -> str:
        """`text` without guards."""
        return text.replace(self._guard, "")

    def unfit(self, what: str) -> DataError:
        return DataError(f"the template {self._name} {what}", fix="choose another data.template, or change the row")

    def _thought(self, message: Message) -> Thought | None:
        """The tags, the thought and the words of an answer that has them, for a template that knows the tags."""
        if not self._reasons or message.role != "assistant":
            return None
        text = words_of(message)
        if not (opened := _THINKS.match(text)):
            return None
        inner, closed, rest = text[opened.end() :].partition("</think>")
        thought, words = inner.rstrip(), rest.lstrip()
        closing = f"{inner[len(thought) :]}{closed}{rest[: len(rest) - len(words)]}"
        return Thought(opened[0], thought, closing, words) if thought and words else None

    def _guarded(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.specials.sub(lambda spelt: spelt[0][:1] + self._guard + spelt[0][1:], value)
        if isinstance(value, Mapping):
            return {self._guarded(key): self._guarded(item) for key, item in value.items()}
        return [self._guarded(item) for item in value] if isinstance(value, list | tuple) else value

    def _described(self, messages: Sequence[Message], marked: bool) -> list[dict[str, Any]]:
        """The messages as chat templates take them. Calls are numbered anew: some templates want ids of 9 letters."""
        described: list[dict[str, Any]] = []
        open_calls: list[tuple[str, dict[str, Any]]] = []
        count = 0
        for number, message in enumerate(messages):
            words = words_of(message)
            entry: dict[str, Any] = {"role": message.role}
            entry["content"] = self.marked(number, message) if marked else words
            if message.tool_calls:
                open_calls = []
                for call in message.tool_calls:
                    count += 1
                    arguments = self._guarded(call.arguments)
                    function = {
                        "name": self._guarded(call.name),
                        "arguments": as_json(arguments) if self.arguments_as_text else arguments,
                    }
                    open_calls.append((call.id, {"id": f"call{count:05d}", "type": "function", "function": function}))
                entry["tool_calls"] = [call for _, call in open_calls]
            elif message.role == "tool" and open_calls:
                named = [item for item in open_calls if item[0] == message.call_id != ""]
                answered = (named or open_calls)[0]
                open_calls.remove(answered)
                entry |= {"tool_call_id": answered[1]["id"], "name": answered[1]["function"]["name"]}
            described.append(entry)
        return described


def _needed(source: str) -> list[str]:
    """The special tokens that a comment in a template names, `{# tokens: <a> <b> #}`."""
    for comment in source.split("{#")[1:]:
        inner, closed, _ = comment.partition("#}")
        _, named, tokens = inner.rpartition("tokens: ")
        if closed and named and ";" not in tokens:
            return tokens.rstrip().removesuffix("-").split()
    return []


def _forms(words: str) -> Iterator[str]:
    """What a template may make of words: nothing but trimming and quoting keeps what they say."""
    for form in (words, words.strip(), words.rstrip(), words.lstrip()):
        yield form
        yield as_json(form)[1:-1]
