"""Conversations -> token sequences: ids and mask are appended by one function, so they cannot diverge."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from graft.data.corpus import Corpus
from graft.data.template import Template
from graft.errors import DataError
from graft.records import Codec, Conversation, Message, Piece, Source, TokenSequence

TooLong = Literal["drop", "cut", "error"]
_SHOWN = 5  # rows named before "and n more"


@dataclass(frozen=True)
class Encoded:
    """Samples ready for training, and what did not fit.

    Args:
        too_long: samples above the cutoff, with the tokens that each has.
        left_out: how many of these are not among the sequences.
    """

    sequences: Corpus
    too_long: list[tuple[Source, int]]
    left_out: int
    cutoff: int

    def report(self) -> str:
        """What was left out or cut, and the cutoff that would keep it; "" where everything fits."""
        if not self.too_long:
            return ""
        rows = ", ".join(str(source.line) for source, _ in self.too_long[:_SHOWN])
        more = f" and {len(self.too_long) - _SHOWN} more" if len(self.too_long) > _SHOWN else ""
        return (
            f"{len(self.too_long)} of {len(self.sequences) + self.left_out} rows are longer than data.cutoff "
            f"{self.cutoff}: {len(self.too_long) - self.left_out} cut, {self.left_out} left out "
            f"({self.too_long[0][0].path}, lines {rows}{more}); "
            f"data.cutoff {max(tokens for _, tokens in self.too_long)} keeps them all whole"
        )


def encode_conversation(conversation: Conversation, template: Template, codec: Codec) -> TokenSequence:
    """The tokens of one conversation, each with whether it is trained."""
    return _encode_pieces(template.render(conversation), codec, conversation.source)


def encode_prompt(message: Message, template: Template, codec: Codec) -> list[int]:
    """The ids up to where the model answers: the same that training saw before the answer.

    Raises:
        DataError: the message holds half a surrogate pair, as a command line that is not UTF-8 gives.
    """
    if any("\ud800" <= character <= "\udfff" for character in message.content + message.context):
        raise DataError("the message is not valid Unicode", fix="write it as UTF-8")
    return list(_encode_pieces([Piece(template.prompt(message), trained=False)], codec, None).ids)


def encode_all(
    conversations: Sequence[Conversation],
    template: Template,
    codec: Codec,
    *,
    cutoff: int,
    too_long: TooLong,
    part: str = "row",
) -> Encoded:
    """Encode every conversation and settle what becomes of those above `cutoff` tokens.

    Args:
        part: what messages call a conversation, such as "held-out row".

    Raises:
        DataError: `too_long` is error and a sample is; nothing fits the cutoff; or no token is left to train on.
    """
    sequences = Corpus()
    long: list[tuple[Source, int]] = []
    for conversation in conversations:
        sequence = encode_conversation(conversation, template, codec)
        if len(sequence) <= cutoff:
            sequences.append(sequence)
            continue
        long.append((conversation.source, len(sequence)))
        if too_long == "error":
            what = f"{conversation.source}: {len(sequence)} tokens are more than data.cutoff {cutoff}"
            raise DataError(what, fix=f"raise data.cutoff to {len(sequence)}, or set data.too_long to drop")
        cut = _cut(sequence, cutoff)
        if too_long == "cut" and cut.trained_tokens:
            sequences.append(cut)
    if not sequences:
        first, tokens = long[0]
        what = f"no {part} fits data.cutoff {cutoff}: {first} has {tokens} tokens, prompt included"
        raise DataError(what, fix=f"set data.cutoff to {max(tokens for _, tokens in long)} to keep every {part}")
    if not any(sequence.trained_tokens for sequence in sequences):
        raise DataError(f"{sequences[0].source}: no {part} has a token to train on", fix="give rows with answers")
    return Encoded(sequences, long, len(conversations) - len(sequences), cutoff)


def _encode_pieces(pieces: Sequence[Piece], codec: Codec, source: Source | None) -> TokenSequence:
    ids: list[int] = []
    mask: list[bool] = []

    def append(new: Sequence[int], trained: bool) -> None:
        ids.extend(new)
        mask.extend([trained] * len(new))

    if codec.bos_id is not None:
        append([codec.bos_id], False)
    for number, piece in enumerate(pieces):
        append(codec.encode(piece.text, first=number == 0), piece.trained)
        if piece.ends_turn:
            append([codec.eos_id], piece.trained)
    return TokenSequence(tuple(ids), tuple(mask), source)


def _cut(sequence: TokenSequence, cutoff: int) -> TokenSequence:
    return TokenSequence(
        sequence.ids[:cutoff], sequence.trained[:cutoff], sequence.source, sequence.adapter_slot, sequence.weight
    )
