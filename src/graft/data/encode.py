"""Conversations -> token sequences: ids and mask are appended by one function, so they cannot diverge."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, Literal

from graft.data.codec import Codec
from graft.data.corpus import Corpus
from graft.data.template import Template
from graft.errors import DataError
from graft.records import Conversation, Message, Piece, Source, TokenSequence

TooLong = Literal["drop", "cut", "error"]
_SHOWN = 5  # rows named before "and n more"
_BATCH = 256  # conversations whose texts the tokenizer is given together, which it encodes in parallel


@dataclass(frozen=True)
class Encoded:
    """Samples ready for training, and what did not fit.

    Args:
        too_long: samples above the cutoff, with the tokens that each has. A row is several samples where the template
            asks for it.
        rows: conversations that were given.
        left_out: how many of the long ones are not among the sequences.
    """

    sequences: Corpus
    too_long: list[tuple[Source, int]]
    rows: int
    left_out: int
    cutoff: int

    def report(self) -> str:
        """What was left out or cut, and the cutoff that would keep it; "" where everything fits."""
        if not self.too_long:
            return ""
        rows = ", ".join(str(source.line) for source, _ in self.too_long[:_SHOWN])
        more = f" and {len(self.too_long) - _SHOWN} more" if len(self.too_long) > _SHOWN else ""
        return (
            f"{len(self.too_long)} of {self.rows} rows are longer than data.cutoff "
            f"{self.cutoff}: {len(self.too_long) - self.left_out} cut, {self.left_out} left out "
            f"({self.too_long[0][0].path}, lines {rows}{more}); "
            f"data.cutoff {max(tokens for _, tokens in self.too_long)} keeps them all whole"
        )


def encode_conversation(
    conversation: Conversation, template: Template, codec: Codec, *, prompt_weight: float = 0.0
) -> TokenSequence:
    """The tokens of a conversation that is one sample (see `Template.samples`), each with whether it is trained.

    Args:
        prompt_weight: share in the loss of what the model is given, beside 1 for what it learns to say.

    Raises:
        DataError: the template has no place for something in the conversation.
    """
    ((_, samples),) = _encode_batch([conversation], template, codec, prompt_weight)
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
        if any("\ud800" <= character <= "\udfff" for character in message.content + message.context):
            raise DataError("the message is not valid Unicode", fix="write it as UTF-8")
    pieces = template.prompt(messages, tools, codec)
    return _join(pieces, _encode_texts(_texts(pieces, codec), codec), codec, bos=template.adds_bos)[0]


def encode_all(
    conversations: Iterable[Conversation],
    template: Template,
    codec: Codec,
    *,
    cutoff: int,
    too_long: TooLong,
    prompt_weight: float = 0.0,
    part: str = "row",
) -> Encoded:
    """Encode every conversation and settle what becomes of those above `cutoff` tokens.

    A document of plain text has no answer to lose: a long one becomes as many samples as it takes.

    Args:
        prompt_weight: share in the loss of what the model is given.
        part: what messages call a conversation, such as "held-out row".

    Raises:
        DataError: `too_long` is error and a sample is; nothing fits the cutoff; or no token is left to train on.
    """
    sequences = Corpus()
    long: list[tuple[Source, int]] = []
    rows = left_out = 0
    for conversation, samples in encode_each(conversations, template, codec, prompt_weight):
        rows += 1
        for sequence in samples:
            if len(sequence) <= cutoff:
                sequences.append(sequence)
            elif conversation.messages[0].role == "text":
                for stretch in _stretches(sequence, cutoff, codec):
                    sequences.append(stretch)
            else:
                long.append((conversation.source, len(sequence)))
                cut = _cut(sequence, cutoff)
                if too_long == "cut" and cut.trained_tokens:
                    sequences.append(cut)
                else:
                    left_out += 1
        if long and too_long == "error":
            what = f"{long[0][0]}: {long[0][1]} tokens are more than data.cutoff {cutoff}"
            raise DataError(what, fix=f"raise data.cutoff to {long[0][1]}, or set data.too_long to drop")
    if not sequences:
        first, tokens = long[0]
        what = f"no {part} fits data.cutoff {cutoff}: {first} has {tokens} tokens, prompt included"
        raise DataError(what, fix=f"set data.cutoff to {max(tokens for _, tokens in long)} to keep every {part}")
    if not any(sequence.trained_tokens for sequence in sequences):
        raise DataError(f"{sequences[0].source}: no {part} has a token to train on", fix="give rows with answers")
    return Encoded(sequences, long, rows, left_out, cutoff)


def encode_each(
    conversations: Iterable[Conversation], template: Template, codec: Codec, prompt_weight: float
) -> Iterator[tuple[Conversation, list[TokenSequence]]]:
    """Each conversation with the samples that it is, however long.

    Raises:
        DataError: the template has no place for something in one.
    """
    waiting = iter(conversations)
    while batch := list(islice(waiting, _BATCH)):
        yield from _encode_batch(batch, template, codec, prompt_weight)


def _encode_batch(
    batch: Sequence[Conversation], template: Template, codec: Codec, prompt_weight: float
) -> Iterator[tuple[Conversation, list[TokenSequence]]]:
    """Each conversation with the samples that it is."""
    rendered = [_render(conversation, template, codec) for conversation in batch]
    texts = [text for samples in rendered for pieces in samples for text in _texts(pieces, codec)]
    encoded = _encode_texts(texts, codec)
    for conversation, samples in zip(batch, rendered, strict=True):
        bos = template.adds_bos or conversation.messages[0].role == "text"
        joined = [_join(pieces, encoded, codec, bos=bos, prompt_weight=prompt_weight) for pieces in samples]
        yield conversation, [_sequence(conversation, *parts, prompt_weight) for parts in joined]


def _sequence(conversation: Conversation, ids: list[int], shares: list[float], prompt_weight: float) -> TokenSequence:
    return TokenSequence(
        tuple(ids),
        tuple([share > 0 for share in shares]),
        conversation.source,
        weight=conversation.weight,
        shares=tuple(shares) if prompt_weight not in (0, 1) else None,
    )


def _render(conversation: Conversation, template: Template, codec: Codec) -> list[list[Piece]]:
    if conversation.messages[0].role == "text":
        (document,) = conversation.messages
        return [[Piece(document.content, document.trained, ends_turn=True)]]
    try:
        return [template.render(sample, codec) for sample in template.samples(conversation, codec)]
    except DataError as error:
        raise DataError(f"{conversation.source}: {error.what}", fix=error.fix) from None


def _texts(pieces: Sequence[Piece], codec: Codec) -> list[tuple[str, bool]]:
    """The texts among `pieces`, each with whether it begins a sequence: at its start, or behind BOS."""
    texts: list[tuple[str, bool]] = []
    begins = True
    for piece in pieces:
        if not piece.special:
            texts.append((piece.text, begins))
        begins = piece.special and codec.special_tokens[piece.text] == codec.bos_id
    return texts


def _encode_texts(texts: Sequence[tuple[str, bool]], codec: Codec) -> Iterator[list[int]]:
    """The ids of each text, in order."""
    encoded = {
        begins: iter(codec.encode_many([text for text, of in texts if of == begins], first=begins))
        for begins in (True, False)
    }
    return (next(encoded[begins]) for _, begins in texts)


def _join(
    pieces: Sequence[Piece], encoded: Iterator[list[int]], codec: Codec, *, bos: bool, prompt_weight: float = 0.0
) -> tuple[list[int], list[float]]:
    """Ids, and for each its share in the loss.

    Args:
        encoded: the ids of the texts, in order.
    """
    ids: list[int] = []
    shares: list[float] = []

    def append(new: Sequence[int], trained: bool | None) -> None:
        ids.extend(new)
        shares.extend([prompt_weight if trained is None else float(trained)] * len(new))

    if bos and codec.bos_id is not None:
        append([codec.bos_id], False)
    for piece in pieces:
        append([codec.special_tokens[piece.text]] if piece.special else next(encoded), piece.trained)
        if piece.ends_turn:
            append([codec.eos_id], piece.trained)
    shares[0] = 0.0  # nothing stands before it to produce it from
    return ids, shares


def _cut(sequence: TokenSequence, cutoff: int) -> TokenSequence:
    shares = sequence.shares and sequence.shares[:cutoff]
    return replace(sequence, ids=sequence.ids[:cutoff], trained=sequence.trained[:cutoff], shares=shares)


def _stretches(sequence: TokenSequence, cutoff: int, codec: Codec) -> Iterator[TokenSequence]:
    """A document in samples of `cutoff` tokens, each with BOS where the model has one."""
    opening = () if codec.bos_id is None else (codec.bos_id,)
    ids = sequence.ids[len(opening) :]
    room = cutoff - len(opening)
    for start in range(0, len(ids), room):
        stretch = opening + ids[start : start + room]
        if len(stretch) > 1:
            yield replace(sequence, ids=stretch, trained=(False,) + (True,) * (len(stretch) - 1), shares=None)
