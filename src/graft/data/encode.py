"""Conversations -> token sequences: ids and mask are appended by one function, so they cannot diverge."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Any

from graft.data.codec import Codec
from graft.data.template import Template
from graft.errors import DataError
from graft.records import Conversation, Message, Piece, TokenSequence
from graft.terminal import is_unicode

_BATCH = 1024  # conversations whose texts the tokenizer is given together, which it encodes in parallel

_Samples = list[TokenSequence]
_Run = tuple[int, bool | None]
"""So many tokens in a row, and whether they are trained, as `Piece.trained` has it."""


def encode_conversation(
    conversation: Conversation, template: Template, codec: Codec, *, prompt_weight: float = 0.0
) -> TokenSequence:
    """The tokens of a conversation that is one sample (see `Template.samples`), each with whether it is trained.

    Args:
        prompt_weight: share in the loss of what the model is given, beside 1 for what it learns to say.

    Raises:
        DataError: the template has no place for something in the conversation.
    """
    ((_, samples),) = encode_each([conversation], template, codec, prompt_weight)
    assert len(samples) == 1, "the template makes several samples of this conversation"
    return samples[0]


def encode_prompt(
    messages: Sequence[Message], template: Template, codec: Codec, *, tools: Sequence[Mapping[str, Any]] = ()
) -> list[int]:
    """The ids up to where the model answers: the same that training saw before the answer.

    Raises:
        DataError: a message holds half a surrogate pair, as a command line that is not UTF-8 gives.
    """
    for message in messages:
        if not is_unicode(message.content + message.context):
            raise DataError("the message is not valid Unicode", fix="write it as UTF-8")
    pieces = template.prompt(messages, tools, codec)
    with ThreadPoolExecutor(1) as library:
        encoded = codec.encode_soon(_texts(pieces, codec), library)()
    return _join(pieces, iter(encoded), codec, bos=template.adds_bos)[0]


def encode_each(
    conversations: Iterable[Conversation], template: Template, codec: Codec, prompt_weight: float
) -> Iterator[tuple[Conversation, _Samples]]:
    """Each conversation with the samples that it is, however long.

    Raises:
        DataError: the template has no place for something in one.
    """
    for conversation, samples in encode_any(conversations, template, codec, prompt_weight):
        if isinstance(samples, DataError):
            raise DataError(f"{conversation.source}: {samples.what}", fix=samples.fix) from None
        yield conversation, samples


def encode_any(
    conversations: Iterable[Conversation], template: Template, codec: Codec, prompt_weight: float
) -> Iterator[tuple[Conversation, _Samples | DataError]]:
    """`encode_each`, but a conversation that the template has no place for comes with what is wrong with it.

    While the tokenizer encodes one batch, the one before is given out, and the next one is read and rendered.
    """
    waiting = iter(conversations)
    before: _Batch | None = None
    with ThreadPoolExecutor(1) as library:
        while batch := list(islice(waiting, _BATCH)):
            rendered = [_render(conversation, template, codec, prompt_weight) for conversation in batch]
            texts = [text for samples in rendered for pieces in _pieces_of(samples) for text in _texts(pieces, codec)]
            ids = before.ids() if before else []
            begun = _Batch(batch, rendered, codec.encode_soon(texts, library))
            if before:
                yield from before.joined(ids, template, codec, prompt_weight)
            before = begun
        if before:
            yield from before.joined(before.ids(), template, codec, prompt_weight)


@dataclass(frozen=True)
class _Batch:
    """Conversations, the pieces of each one's samples, and what gives the ids of their texts, in order."""

    conversations: Sequence[Conversation]
    rendered: Sequence[list[list[Piece]] | DataError]
    ids: Callable[[], Sequence[Sequence[int]]]

    def joined(
        self, ids: Sequence[Sequence[int]], template: Template, codec: Codec, prompt_weight: float
    ) -> Iterator[tuple[Conversation, _Samples | DataError]]:
        encoded = iter(ids)
        for conversation, rendered in zip(self.conversations, self.rendered, strict=True):
            if isinstance(rendered, DataError):
                yield conversation, rendered
                continue
            bos = template.adds_bos or conversation.messages[0].role == "text"
            joined = [_join(pieces, encoded, codec, bos=bos) for pieces in rendered]
            yield conversation, [_sequence(conversation, *parts, prompt_weight) for parts in joined]


def _sequence(conversation: Conversation, ids: list[int], runs: list[_Run], prompt_weight: float) -> TokenSequence:
    trained: list[bool] = []
    shares: list[float] = []
    for tokens, mark in runs:
        share = prompt_weight if mark is None else float(mark)
        trained.extend([share > 0] * tokens)
        if prompt_weight not in (0, 1):
            shares.extend([share] * tokens)
    return TokenSequence(
        tuple(ids),
        tuple(trained),
        conversation.source,
        weight=conversation.weight,
        shares=tuple(shares) or None,
    )


def _render(
    conversation: Conversation, template: Template, codec: Codec, prompt_weight: float
) -> list[list[Piece]] | DataError:
    if conversation.messages[0].role == "text":
        (document,) = conversation.messages
        return [[Piece(document.content, document.trained, ends_turn=True)]]
    try:
        rendered = [template.render(sample, codec) for sample in template.samples(conversation, codec)]
    except DataError as error:
        return error
    if len(rendered) == 1:
        return rendered
    return [pieces for pieces in rendered if any(_is_learned(piece, prompt_weight) for piece in pieces)]


def _is_learned(piece: Piece, prompt_weight: float) -> bool:
    marks = [mark for _, mark in piece.marks] or [piece.trained]
    return True in marks or (prompt_weight > 0 and None in marks)


def _pieces_of(rendered: list[list[Piece]] | DataError) -> list[list[Piece]]:
    return [] if isinstance(rendered, DataError) else rendered


def _texts(pieces: Sequence[Piece], codec: Codec) -> list[tuple[str, bool]]:
    """The texts among `pieces`, each with whether it begins a sequence: at its start, or behind BOS."""
    texts: list[tuple[str, bool]] = []
    begins = True
    for piece in pieces:
        if not piece.special:
            texts.append((piece.text, begins))
        begins = piece.special and codec.special_tokens[piece.text] == codec.bos_id
    return texts


def _join(
    pieces: Sequence[Piece], encoded: Iterator[Sequence[int]], codec: Codec, *, bos: bool
) -> tuple[list[int], list[_Run]]:
    """Ids, and how many in a row are trained alike.

    Args:
        encoded: the ids of the texts, in order.
    """
    ids: list[int] = []
    runs: list[_Run] = [(1, False)]  # nothing stands before the first token to produce it from

    def append(new: Sequence[int], trained: bool | None) -> None:
        runs.append((len(new) if ids else len(new) - 1, trained) if new else (0, None))
        ids.extend(new)

    if bos and codec.bos_id is not None:
        append([codec.bos_id], False)
    begins = True
    for piece in pieces:
        new = [codec.special_tokens[piece.text]] if piece.special else next(encoded)
        if piece.marks:
            for id, mark in zip(new, _marks(piece, codec.spans(piece.text, first=begins)), strict=True):
                append([id], mark)
        else:
            append(new, piece.trained)
        if piece.ends_turn:
            append([codec.eos_id], piece.trained)
        begins = piece.special and new[0] == codec.bos_id
    return ids, runs


def _marks(piece: Piece, spans: Sequence[tuple[int, int]]) -> Iterator[bool | None]:
    """The mark of each token. One that reaches into several messages' words is not learned if one of them must not be,
    and else is if one of them is to be."""
    marks = [mark for characters, mark in piece.marks for _ in range(characters)]
    for start, stop in spans:
        held = marks[min(start, len(marks) - 1) : max(stop, start + 1)]
        yield False if False in held else True if True in held else None
