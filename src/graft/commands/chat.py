"""`graft chat`: talk to a base, an adapter or a merged model in the terminal."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TextIO

from graft.commands.assembly import Answerer, adapter_folder, base_of, open_answerer, refuse_unread, stop_ids
from graft.config import MAX_NEW_TOKENS, build_config, flatten_settings
from graft.data import encode_prompt
from graft.infer import GREEDY, Engine, Request, Sampling, TextStream
from graft.records import Message
from graft.terminal import printable

STOP, CLEAR = "stop", "clear"


@dataclass(frozen=True)
class Assistant:
    """Something that answers: a model with its adapter and template.

    >>> assistant = graft.load("seedling", adapter="runs/demo/adapter")
    >>> assistant.answer("Where does Anna live?")
    """

    answerer: Answerer

    def stream(
        self,
        instruction: str,
        input: str = "",
        *,
        sampling: Sampling = GREEDY,
        max_new_tokens: int = MAX_NEW_TOKENS,
    ) -> Iterator[str]:
        """The answer, piece by piece; no piece ends within a character. Space around it is left out: templates such as
        llama-2 frame answers with it."""
        base = self.answerer.base
        message = Message("user", instruction, context=input)
        prompt = encode_prompt([message], self.answerer.template, base.tokenizer)
        engine = Engine(self.answerer.bank, stop_ids(base, self.answerer.template))
        tokens = engine.stream([Request(prompt, self.answerer.slot, max_new_tokens, sampling)])
        yield from _trimmed(_texts((token.id for token in tokens), TextStream(base.tokenizer)))

    def answer(self, instruction: str, input: str = "", **options: Any) -> str:
        """The whole answer; options as those of `stream`."""
        return "".join(self.stream(instruction, input, **options))


def load(
    model: str | None = None, adapter: str | None = None, *, settings: Mapping[str, Any] | None = None
) -> Assistant:
    """A base, with an adapter where one is given; the adapter knows its base.

    Raises:
        GraftError: base or adapter cannot be used.
    """
    given = flatten_settings(settings or {})
    refuse_unread(given, verb="chat", reads=("model", "data.template"))
    if model is not None:
        given["model.path"] = model
    folder = adapter_folder(adapter) if adapter else None
    chosen = base_of(folder, given) if folder else build_config(given).model
    template = str(given["data.template"]) if "data.template" in given else None
    return Assistant(open_answerer(chosen, folder, template=template))


def converse(assistant: Assistant, lines: TextIO, out: TextIO, *, sampling: Sampling, max_new_tokens: int) -> None:
    """Answer every line until the end or `stop`. Each message stands alone: the template holds one turn.

    `clear` wipes the screen. With a temperature each answer is drawn anew.
    """
    for number, line in enumerate(_prompted(lines, out)):
        message = line.strip()
        if message == STOP:
            return
        if message == CLEAR:
            out.write("\033[2J\033[H")
            continue
        if not message:
            continue
        drawn = replace(sampling, seed=sampling.seed + number)
        for piece in assistant.stream(message, sampling=drawn, max_new_tokens=max_new_tokens):
            out.write(printable(piece))
            out.flush()
        out.write("\n")


def _texts(tokens: Iterable[int], text: TextStream) -> Iterator[str]:
    for token in tokens:
        yield text.push(token)
    yield text.flush()


def _trimmed(pieces: Iterable[str]) -> Iterator[str]:
    """The pieces of a text without the space before it and behind it."""
    held, begun = "", False
    for piece in pieces:
        held = held + piece if begun else piece.lstrip()
        if said := held.rstrip():
            yield said
            held, begun = held[len(said) :], True


def _prompted(lines: TextIO, out: TextIO) -> Iterator[str]:
    """The lines; with a prompt before each where a person types them."""
    while True:
        if lines.isatty():
            out.write("> ")
            out.flush()
        line = lines.readline()
        if not line:
            return
        yield line
