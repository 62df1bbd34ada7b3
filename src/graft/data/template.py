"""Conversations -> pieces of text: the words that the model sees around what people say."""

import json
import os
import re
from dataclasses import asdict, dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from graft.errors import DataError, nearest
from graft.records import Conversation, Message, Piece

_FIELD = re.compile(r"\{(instruction|input)\}")


@dataclass(frozen=True)
class Template:
    """A template file of Alpaca-LoRA's form.

    Args:
        prompt_input: the prompt where the message has context, with {instruction} and {input}.
        prompt_no_input: the prompt where it has none, with {instruction}.
        response_split: what stands before the answer; kept for other software, never searched for here.
    """

    description: str
    prompt_input: str
    prompt_no_input: str
    response_split: str

    def content(self) -> dict[str, Any]:
        """What the file holds; `template_of` reads it back."""
        return asdict(self)

    def prompt(self, message: Message) -> str:
        """The text up to where the model answers."""
        form = self.prompt_input if message.context.strip() else self.prompt_no_input
        values = {"instruction": message.content, "input": message.context}
        return _FIELD.sub(lambda field: values[field[1]], form)  # one pass: braces in what people write stay text

    def render(self, conversation: Conversation) -> list[Piece]:
        """A prompt, and an answer that ends its turn, for each pair of messages."""
        pieces = []
        for message in conversation.messages:
            answers = message.role == "assistant"
            text = message.content if answers else self.prompt(message)
            pieces.append(Piece(text, message.trained, ends_turn=answers))
        return pieces


def load_template(name: str) -> Template:
    """The template that ships under `name`, or that of the file at this path.

    Raises:
        DataError: there is none, or the file is not a template.
    """
    folder = resources.files("graft.data") / "templates"
    shipped = {entry.name.removesuffix(".json"): entry for entry in folder.iterdir() if entry.name.endswith(".json")}
    if name in shipped:
        text = shipped[name].read_text(encoding="utf-8")
    elif os.path.isfile(name):
        text = _read(Path(name))
    else:
        alike = nearest(name, shipped)
        hint = f"did you mean `{alike}`? " if alike else ""
        fix = f"{hint}There are {', '.join(sorted(shipped))}; or give a file's path"
        raise DataError(f"data.template: there is no template and no file `{name}`", fix=fix)
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"the template {name} is not JSON: {error}", fix="mend the file") from None
    return template_of(content, name)


def template_of(content: Any, name: str) -> Template:
    """The template with the `content` of a file; `name` is for messages."""
    if not isinstance(content, dict):
        raise DataError(f"the template {name} is not a JSON object", fix="see the shipped templates/alpaca.json")
    for key in ("prompt_input", "prompt_no_input"):
        if not isinstance(content.get(key), str) or "{instruction}" not in content[key]:
            raise DataError(f"the template {name} needs `{key}`, a text with {{instruction}} in it", fix="add it")
    if "{input}" not in content["prompt_input"]:
        raise DataError(f"the template {name} needs {{input}} in `prompt_input`", fix="add it, or inputs are lost")
    known = {key: str(content.get(key, "")) for key in Template.__dataclass_fields__}
    return Template(**known)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"the template {path} cannot be read: {error}", fix="save it as UTF-8") from None
