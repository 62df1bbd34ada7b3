"""What the teacher replied -> its text -> items of a list, yes or no, examples.

A teacher may reply anything. Whatever cannot be used raises a `ReplyFault`, which is counted and reported.
"""

import re
from dataclasses import dataclass
from typing import Any

from graft.data.calls import parse_json


class ReplyFault(ValueError):
    """A reply that is of no use.

    Args:
        reason: the name under which it is counted.
    """

    def __init__(self, reason: str, what: str) -> None:
        super().__init__(what)
        self.reason = reason


@dataclass(frozen=True)
class Said:
    """The teacher's words.

    Args:
        whole: they were not cut at the longest reply.
    """

    text: str
    whole: bool


@dataclass(frozen=True)
class Example:
    """An instance of a task, as the teacher wrote it; `output` is None where it wrote none."""

    input: str
    output: str | None


_THOUGHTS = re.compile(r"<think>.*?</think>|\A.*?</think>", re.DOTALL)
_NUMBERED = re.compile(
    r"^[ \t]*(?:[#>*-]+[ \t]*)?(?:\*\*|__)?[ \t]*(?:(?:task|instruction|任务|指令)[ \t]*)?[(（]?(\d{1,3})[)）]?"
    r"(?:\*\*|__)?[ \t]*[.:)、．：)）][ \t]*(?:\*\*|__)?",
    re.IGNORECASE | re.MULTILINE,
)
_BULLET = re.compile(r"^[ \t]*[-*•·][ \t]+", re.MULTILINE)
_MARK = re.compile(
    r"^[ \t]*(?:[#>*-]+[ \t]*)?(?:\*\*|__)?[ \t]*"
    r"(?:(?P<label>class label|label|类别|标签)|(?P<input>input|输入)|(?P<output>output|answer|输出|答案)"
    r"|(?P<example>example|示例|例子|例))"
    r"[ \t]*\d*[ \t]*(?:\*\*|__)?[ \t]*(?:[:：]|(?<=\d)[.、]?[ \t]*$)[ \t]*(?:\*\*|__)?",
    re.IGNORECASE | re.MULTILINE,
)
_NOTHING = re.compile(
    r"[\[<(（【]?\s*(?:no ?input|none|n/?a|not applicable|empty|no input needed|无|无输入|无需输入|没有|空)"
    r"\s*[\]>)）】]?\s*[.。]?",
    re.IGNORECASE,
)
_YES_OR_NO = re.compile(
    r"(?P<no>\bno\b|\bnot (?:a )?classification|不是|不属于|(?<!是)否|非分类)"
    r"|(?P<yes>\byes\b|\bis a classification|是(?!否)|属于)",
    re.IGNORECASE,
)
_FENCE = re.compile(r"\A\s*```[^\n]*\n(.*?)\n?```\s*\Z", re.DOTALL)


def said_in(status: int, body: str) -> Said:
    """The words of a chat completion, what the model thought before them left out.

    Raises:
        ReplyFault: it is none.
    """
    if status != 200:
        raise ReplyFault("refused-by-teacher", f"HTTP {status}: {body[:200]}")
    try:
        value = parse_json(body)
    except ValueError:
        kind = "a page of HTML" if body.lstrip()[:1] == "<" else "no JSON"
        raise ReplyFault("not-a-completion", f"{kind}: {body[:200]}") from None
    choice = _at(value, "choices", 0)
    text = _at(choice, "message", "content")
    if choice is None:
        raise ReplyFault("not-a-completion", f"no choices: {body[:200]}")
    if not isinstance(text, str) or not text.strip():
        raise ReplyFault("empty-reply", f"no words: {body[:200]}")
    whole = _at(choice, "finish_reason") != "length"
    text = _THOUGHTS.sub("", text)
    if "<think>" in text or not text.strip():
        raise ReplyFault("empty-reply", "only thoughts, and no words after them")
    fenced = _FENCE.match(text)
    return Said(fenced[1] if fenced else text, whole)


def usage_in(status: int, body: str) -> tuple[int, int] | None:
    """Prompt and reply tokens, as the server counted them; None where it does not say."""
    try:
        usage = _at(parse_json(body), "usage")
    except ValueError:
        return None
    counts = _at(usage, "prompt_tokens"), _at(usage, "completion_tokens")
    if all(isinstance(count, int) and not isinstance(count, bool) and 0 <= count < 2**40 for count in counts):
        return counts
    return None


def listed(said: Said) -> list[str]:
    """The items of a numbered list, or of one with bullets; each may have several lines.

    Raises:
        ReplyFault: there is no list.
    """
    for mark in (_NUMBERED, _BULLET):
        places = list(mark.finditer(said.text))
        if places:
            break
    else:
        raise ReplyFault("no-list", f"no numbered list: {said.text.strip()[:200]}")
    ends = [place.start() for place in places[1:]] + [len(said.text)]
    items = [said.text[place.end() : end] for place, end in zip(places, ends, strict=True)]
    if not said.whole:
        items.pop()  # cut in the middle
    return [_plain(item) for item in items]


def yes_or_no(said: Said) -> bool:
    """What the first yes or no says.

    Raises:
        ReplyFault: there is neither.
    """
    match = _YES_OR_NO.search(said.text)
    if not match:
        raise ReplyFault("neither-yes-nor-no", f"neither yes nor no: {said.text.strip()[:200]}")
    return match["yes"] is not None


def examples(said: Said, *, output_first: bool) -> list[Example]:
    """The examples of a task. One that has no output, or was cut, stands with None for its output.

    Args:
        output_first: a label stands before the input that has it, and not an input before its output.

    Raises:
        ReplyFault: there is none.
    """
    places = list(_MARK.finditer(said.text))
    ends = [place.start() for place in places[1:]] + [len(said.text)] * bool(places)
    found: list[dict[str, str]] = []
    for place, end in zip(places, ends, strict=True):
        kind = "output" if place.lastgroup == "label" else str(place.lastgroup)
        if kind == "example":
            found.append({})
            continue
        if not found or kind in found[-1] or (kind == ("output" if output_first else "input") and found[-1]):
            found.append({})
        text = said.text[place.end() : end].strip()
        found[-1][kind] = "" if kind == "input" and _NOTHING.fullmatch(text) else text
    found = [parts for parts in found if parts]
    if not found:
        raise ReplyFault("no-examples", f"no example in the form asked for: {said.text.strip()[:200]}")
    if not said.whole:
        found[-1].pop("output", None)  # cut in the middle
    return [Example(parts.get("input", ""), parts.get("output")) for parts in found]


def _plain(item: str) -> str:
    """An item in one line, without the marks around it and without what follows an empty line."""
    text = " ".join(item.strip().partition("\n\n")[0].split()).strip("*_").strip()
    for begin, end in ('""', "“”", "「」"):
        if text.startswith(begin) and text.endswith(end) and len(text) > 1 and begin not in text[1:-1]:
            text = text[1:-1]
    return text.strip()


def _at(value: Any, *path: str | int) -> Any:
    """What stands there; None where nothing does."""
    for step in path:
        if isinstance(step, int):
            value = value[step] if isinstance(value, list) and len(value) > step else None
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value
