"""A tokenizer that can be read: a token a character, and one before a text that begins a sequence."""

import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field

BOS, EOS, OPENING = 1, 2, 3
FIRST = 1000  # ids below are special tokens

SPECIAL = re.findall(
    r"\S+",
    """<s> </s> <opening> <|im_start|> <|im_end|> <|begin_of_text|> <|start_header_id|> <|end_header_id|> <|eot_id|>
    [gMASK] sop <|system|> <|user|> <|assistant|> <|observation|> <start_of_turn> <end_of_turn> [INST] [/INST]
    [TOOL_CALLS] [AVAILABLE_TOOLS] [/AVAILABLE_TOOLS] [TOOL_RESULTS] [/TOOL_RESULTS] <|end|> <|python_tag|>
    <|eom_id|>""",
)


def ids(text: str) -> list[int]:
    """The ids of a continuation."""
    return [ord(character) + FIRST for character in text]


@dataclass
class Characters:
    """As SentencePiece's, a text that begins a sequence has a space before it: the token OPENING."""

    bos_id: int | None = BOS
    eos_id: int = EOS
    special_tokens: Mapping[str, int] = field(default_factory=lambda: {text: i for i, text in enumerate(SPECIAL, 1)})
    greedy_tokens: Mapping[str, tuple[bool, bool]] = field(default_factory=dict)
    token_names: Mapping[str, str] = field(default_factory=lambda: {"bos_token": "<s>", "eos_token": "</s>"})

    def encode_soon(
        self, texts: Sequence[tuple[str, bool]], library: Executor
    ) -> Callable[[], Sequence[Sequence[int]]]:
        return lambda: [[OPENING] * first + ids(text) for text, first in texts]

    def spans(self, text: str, *, first: bool) -> list[tuple[int, int]]:
        return [(0, 0)] * first + [(place, place + 1) for place in range(len(text))]

    def decode(self, tokens: Sequence[int]) -> str:
        """The text, special tokens spelt out."""
        spelt = {id: text for text, id in self.special_tokens.items()}
        return "".join(chr(id - FIRST) if id >= FIRST else spelt[id] for id in tokens if id != OPENING)
