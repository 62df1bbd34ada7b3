"""Conversations -> pieces of text: the words that the model sees around what people say."""

import json
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Protocol

from graft.data.calls import Answer, marked_call, read_calls, tools_text
from graft.data.chat import ChatTemplate
from graft.data.codec import Codec
from graft.data.layout import Tools
from graft.data.words import Said, piece_of, words_of
from graft.errors import DataError, nearest
from graft.records import Conversation, Message, Piece

_SUFFIXES = (".json", ".jinja", ".jinja2", ".j2")

FALLBACK = "alpaca"
"""For models that bring no chat template: plain words, which every tokenizer can write."""

_FIELD = re.compile(r"\{(instruction|input)\}")


class Template(Protocol):
    """The words that the model sees around what people say."""

    @property
    def adds_bos(self) -> bool:
        """Whether BOS goes before the first piece where the model has one; else the pieces hold it."""
        ...

    def content(self) -> dict[str, Any]:
        """What is stored with an adapter; `template_of` reads it back."""
        ...

    def samples(self, conversation: Conversation, codec: Codec) -> list[Conversation]:
        """The conversations to render for this one: itself, but for templates that rewrite what was said before."""
        ...

    def render(self, conversation: Conversation, codec: Codec) -> list[Piece]:
        """One of `samples`, as the model learns it.

        Raises:
            DataError: the template has no place for something in it, or does not fit the tokenizer.
        """
        ...

    def prompt(self, messages: Sequence[Message], tools: Tools, codec: Codec) -> list[Piece]:
        """The pieces up to where the model answers the last message; those that `render` has before the answer."""
        ...

    def stops(self, codec: Codec) -> frozenset[int]:
        """The tokens with which the model ends what it says."""
        ...

    def read_answer(self, text: str, codec: Codec) -> Answer:
        """The words and the calls in a generated text."""
        ...


@dataclass(frozen=True)
class AlpacaTemplate:
    """A template file of Alpaca-LoRA's form. What the form has no place for, system messages and tools, goes before the
    first prompt; what tools answer is asked like an instruction.

    Args:
        prompt_input: the prompt where the message has context, with {instruction} and {input}.
        prompt_no_input: the prompt where it has none, with {instruction}.
        response_split: what stands before the answer; kept for other software, never searched for here.
    """

    description: str
    prompt_input: str
    prompt_no_input: str
    response_split: str

    adds_bos = True

    def content(self) -> dict[str, Any]:
        return asdict(self)

    def samples(self, conversation: Conversation, codec: Codec) -> list[Conversation]:
        return [conversation]

    def render(self, conversation: Conversation, codec: Codec) -> list[Piece]:
        """A prompt, and an answer that ends its turn, for each pair of messages."""
        return self.prompt(conversation.messages, conversation.tools, codec)

    def prompt(self, messages: Sequence[Message], tools: Tools, codec: Codec) -> list[Piece]:
        pieces: list[Piece] = []
        asked: list[Message] = []
        before: list[list[Said]] = [[(tools_text(tools), None)]] if tools else []
        for number, message in enumerate(messages):
            if message.role == "assistant":
                if before:  # nobody asked; it is said all the same
                    pieces.append(piece_of(_joined([*before, []], "\n\n")))
                    asked, before = [], []
                said = [*filter(None, [words_of(message)]), *map(marked_call, message.tool_calls)]
                pieces.append(Piece("\n".join(said), message.trained, ends_turn=True))
            elif message.role == "system":
                before.insert(0, [(words_of(message), message)])
            else:
                asked.append(message)
                if number + 1 == len(messages) or not message.role == messages[number + 1].role == "tool":
                    pieces.append(piece_of(_joined([*before, self._form(asked)], "\n\n")))
                    asked, before = [], []
        if before:  # nobody asks, and nobody answers
            pieces.append(piece_of(_joined(before, "\n\n")))
        return pieces

    def stops(self, codec: Codec) -> frozenset[int]:
        return frozenset([codec.eos_id])

    def read_answer(self, text: str, codec: Codec) -> Answer:
        return read_calls(text, "marked")

    def _form(self, asked: Sequence[Message]) -> list[Said]:
        """The text up to where the model answers this message, or all these that are what tools answered."""
        last = asked[-1]
        values: dict[str, list[Said]] = {"instruction": [(last.content, last)], "input": [(last.context, last)]}
        form = self.prompt_input if last.context.strip() else self.prompt_no_input
        if last.role == "tool":
            form = self.prompt_no_input
            answers: list[list[Said]] = [
                [("<tool_response>\n", None), (words_of(m), m), ("\n</tool_response>", None)] for m in asked
            ]
            values = {"instruction": _joined(answers, "\n"), "input": []}
        texts: list[Said] = []
        for number, part in enumerate(_FIELD.split(form)):  # one pass: braces in what people write stay text
            texts.extend(values[part] if number % 2 else [(part, None)])
        return texts


def _joined(stretches: Sequence[Sequence[Said]], between: str) -> list[Said]:
    """As `str.join`."""
    first, *others = stretches
    return [*first, *(said for stretch in others for said in [(between, None), *stretch])]


def load_template(name: str, own: str | None = None) -> Template:
    """The template that ships under `name`, or that of the file at this path.

    Args:
        name: "auto" for the model's own, or `FALLBACK` where it has none; "model" for the model's own.
        own: the model's own chat template.

    Raises:
        DataError: there is none, or the file is not a template.
    """
    if name == "model" and own is None:
        raise DataError("data.template: the model brings no chat template", fix=f"take another, such as {FALLBACK}")
    if name in ("auto", "model"):
        return load_template(FALLBACK) if own is None else ChatTemplate(own)
    folder = resources.files("graft.data") / "templates"
    shipped = {entry.name.rsplit(".", 1)[0]: entry for entry in folder.iterdir() if entry.name.endswith(_SUFFIXES)}
    if name in shipped:
        file, text = shipped[name].name, shipped[name].read_text(encoding="utf-8")
    elif os.path.isfile(name):
        file, text = name, _read(Path(name))
    else:
        alike = nearest(name, [*shipped, "auto", "model"])
        hint = f"did you mean `{alike}`? " if alike else ""
        fix = f"{hint}There are auto, model, {', '.join(sorted(shipped))}; or give a file's path"
        raise DataError(f"data.template: there is no template and no file `{name}`", fix=fix)
    if file.endswith(_SUFFIXES[1:]):
        return template_of({"jinja": text}, name)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the template {name} is not JSON: {error}", fix="mend the file") from None
    return template_of(content, name)


def template_of(content: Any, name: str) -> Template:
    """The template with the `content` of a file, or `{"jinja": text}`; `name` is for messages."""
    if not isinstance(content, dict):
        raise DataError(f"the template {name} is not a JSON object", fix="see the shipped templates/alpaca.json")
    if isinstance(content.get("jinja"), str):
        return ChatTemplate(content["jinja"], name)
    for key in ("prompt_input", "prompt_no_input"):
        if not isinstance(content.get(key), str) or "{instruction}" not in content[key]:
            raise DataError(f"the template {name} needs `{key}`, a text with {{instruction}} in it", fix="add it")
    if "{input}" not in content["prompt_input"]:
        raise DataError(f"the template {name} needs {{input}} in `prompt_input`", fix="add it, or inputs are lost")
    known = {key: str(content.get(key, "")) for key in AlpacaTemplate.__dataclass_fields__}
    return AlpacaTemplate(**known)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the template {path} cannot be read: {error}", fix="save it as UTF-8") from None
