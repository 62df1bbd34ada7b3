"""What stands in the texts: broken characters, answers that say nothing, and what should not be in data."""

import re
import unicodedata
from collections.abc import Callable, Iterator
from itertools import islice

from graft.data.checks.contract import Seen, Terms, row_check, texts_of
from graft.records import Message

REPLACEMENT = "\ufffd"
_MOJIBAKE = re.compile("[ÂÃ][\u0080-\u00bf]|â€[\u0080-\u00bf™œ\u009d˜“”¢¦]|(?:[äåæçèé][\u0080-\u00bf]{2}){2}")
"""UTF-8 that was read as Latin-1 or Windows-1252: an accent, a quote or dash, two Chinese characters."""
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x80-\x9f\ufffe\uffff]")
_LONGEST_WORD = 40  # characters; in what is longer there are two, or no words
_NAMED = 5  # of what is found in a row
_WORD = re.compile(r"[^\W_]+")
_WIDE = "[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff]"
_WIDE_CHARACTER = re.compile(_WIDE)

SECRETS: dict[str, re.Pattern[str]] = {
    "a private key": re.compile(r"-----BEGIN (?:[A-Z]+ )*PRIVATE KEY-----"),
    "an AWS key": re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"),
    "a GitHub token": re.compile(r"\b(?:gh[pousr]_[A-Za-z0-9]{36,}|github_pat_[A-Za-z0-9_]{50,})\b"),
    "a Hugging Face token": re.compile(r"\bhf_[A-Za-z0-9]{30,}\b"),
    "an API key": re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"),
    "a Google key": re.compile(r"\bAIza[0-9A-Za-z_-]{35}\b"),
    "a Slack token": re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"),
    "a web token": re.compile(r"(?<![A-Za-z0-9_-])eyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}"),
    "a password in an address": re.compile(r"\b[a-z][a-z0-9+.-]{0,30}://[^\s/:@]{1,64}:[^\s/:@]{3,64}@\w"),
}
_HINTS = (
    "PRIVATE KEY",
    "AKIA",
    "ASIA",
    "ghp_",
    "gho_",
    "ghu_",
    "ghs_",
    "ghr_",
    "github_pat_",
    "hf_",
    "sk-",
    "AIza",
    "xox",
    "eyJ",
    "://",
)
"""A text without any of these holds none of them, and is soon done with."""
EMAIL = re.compile(r"(?<![\w.+-])[A-Za-z0-9][\w.+-]{0,63}@(?:[A-Za-z0-9-]{1,63}\.){1,8}[A-Za-z]{2,24}\b", re.ASCII)
_NOBODY = re.compile(r"@(?:[\w-]+\.)*(?:example(?:\.\w+)?|test|invalid|localhost|email\.com|domain\.com)$")


@row_check(
    "broken-text",
    "warning",
    what="with replacement characters, control characters or wrongly decoded text",
    fix="export the data again as UTF-8; --fix with --drop broken-text leaves these rows out",
)
def broken_text(row: Seen, _: Terms) -> str:
    return _in_texts(row, _broken)


@row_check(
    "altered",
    "warning",
    what="with characters that the tokenizer has no tokens for, so that the model reads others",
    fix="write them otherwise, if they matter; --fix with --drop altered leaves these rows out",
)
def altered(row: Seen, terms: Terms) -> str:
    return _in_texts(row, terms.alphabet.altered) if row.samples else ""


@row_check(
    "short-answers",
    "warning",
    what="with an answer of one word or none",
    fix="meant for a classifier; else look, or leave them out: --fix with --drop short-answers",
)
def short_answers(row: Seen, _: Terms) -> str:
    for message in row.messages:
        if message.role == "assistant" and message.trained and not message.tool_calls and _is_short(message):
            return f"the answer is {message.content.strip()[:40]!r}"
    return ""


@row_check(
    "secrets",
    "warning",
    what="with what looks like a key or password, which a model can learn by heart",
    fix="take it out and renew it; --fix with --drop secrets leaves these rows out",
)
def secrets(row: Seen, _: Terms) -> str:
    return _in_texts(row, _keys)


@row_check(
    "e-mail",
    "warning",
    what="with an e-mail address, which a model can learn by heart",
    fix="see whose they are; --fix with --drop e-mail leaves these rows out",
)
def e_mail(row: Seen, _: Terms) -> str:
    """Addresses of people; those of `example.com` and its like are nobody's."""
    return _in_texts(row, _addresses)


def _in_texts(row: Seen, find: Callable[[str], Iterator[str]]) -> str:
    """What `find` names in the first of the row's messages in which it names something."""
    for place, message in enumerate(row.messages, start=1):
        named = dict.fromkeys(name for text in texts_of(message) for name in find(text))
        if named:
            more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
            return f"message {place} ({message.role}): {', '.join(islice(named, _NAMED))}{more}"
    return ""


def is_broken(text: str) -> bool:
    """Whether characters of `text` were lost or wrongly decoded, or no tokenizer can read them."""
    return any(True for _ in _broken(text)) or any("\ud800" <= character <= "\udfff" for character in text)


def _broken(text: str) -> Iterator[str]:
    if REPLACEMENT in text:
        yield "U+FFFD, where a character was lost"
    if match := _CONTROL.search(text):
        yield f"U+{ord(match[0]):04X}, which is no text"
    if match := _MOJIBAKE.search(text):
        yield f"{match[0]!r}, UTF-8 read as something else"


def _keys(text: str) -> Iterator[str]:
    if any(hint in text for hint in _HINTS):
        yield from (name for name, pattern in SECRETS.items() if pattern.search(text))


def _addresses(text: str) -> Iterator[str]:
    if "@" in text:
        yield from (_masked(match[0]) for match in EMAIL.finditer(text) if not _NOBODY.search(match[0]))


def _masked(address: str) -> str:
    """Enough to find it; a report is no place to collect addresses."""
    name, _, host = address.partition("@")
    return f"{name[0]}...@{host}"


def _is_short(message: Message) -> bool:
    """At most one word; two Chinese or Japanese characters are one. A figure or a formula is no word, and is fine."""
    text = unicodedata.normalize("NFKC", message.content.strip())
    if len(text) > _LONGEST_WORD:
        return False
    if any(character.isdigit() for character in text) or any(unicodedata.category(c) == "Sm" for c in text):
        return False
    wide = len(_WIDE_CHARACTER.findall(text))
    words = len(_WORD.findall(_WIDE_CHARACTER.sub(" ", text)))
    return words + wide / 2 <= 1
