"""What does not join the data: instructions and examples that are of no use, each with the reason (Self-Instruct,
Wang et al. 2022, arXiv 2212.10560, section 2.2, and its code; its word lists, and the same in Chinese)."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from graft.data.checks.nearness import normal
from graft.data.checks.text import is_broken
from graft.data.rouge import words
from graft.data.synth.replies import Example
from graft.data.synth.seeds import Instance, language_of
from graft.data.synth.settings import Language

FEWEST_WORDS, MOST_WORDS = 4, 150
"""Of an instruction; a Chinese character is a word."""

_KEYWORDS = re.compile(
    r"\b(?:images?|graphs?|pictures?|files?|maps?|draw|plot|go to|videos?|audio|music|flowcharts?|diagrams?)\b",
    re.IGNORECASE,
)
_KEYWORDS_ZH = re.compile(
    "图片|图像|图象|照片|相片|截图|插图|配图|图表|图形|图示|折线图|柱状图|饼图|文件|附件|地图|画一|画出|画个|绘制|绘画|绘图|作图|视频|音频|录音|"
    "音乐|乐曲|歌曲|播放|流程图|示意图|思维导图|前往|打开网"
)
_PROGRAM = re.compile(
    r"(?:please )?(?:write|create|develop|implement) (?:a|an|the)? ?(?:\w+ )?(?:computer )?(?:program|script)\b"
    r"|请?(?:编写|写|实现|开发|创建)(?:出|一?[个段份支])?[\w+#]{0,8}?(?:程序|脚本|代码)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Drop:
    """Something that was left out.

    Args:
        reason: the name under which it is counted.
        what: the text, or what is wrong with it.
    """

    reason: str
    what: str


def instruction_fault(text: str, wanted: Language | None) -> Drop | None:
    """Why an instruction does not join the pool, its likeness to others aside; None where it may.

    Args:
        wanted: the only language that the data has; None for any.
    """
    count = len(words(text))
    checks = (
        ("broken-text", is_broken(text)),
        ("too-short", count < FEWEST_WORDS),
        ("too-long", count > MOST_WORDS),
        ("begins-with-punctuation", not text[:1].isalnum()),
        ("keyword", bool(_KEYWORDS.search(text) or _KEYWORDS_ZH.search(text))),
        ("asks-for-a-program", bool(_PROGRAM.match(text))),
        ("other-language", wanted is not None and count > 0 and language_of(text) != wanted),
    )
    reason = next((name for name, applies in checks if applies), "")
    return Drop(reason, text) if reason else None


def good_instances(instruction: str, examples: Sequence[Example]) -> tuple[list[Instance], list[Drop]]:
    """The examples of a task that can be trained on, and those that cannot. Where two with the same input have
    different outputs no one knows which is right, and none of the task is kept; an instruction that needs no input may
    have many good answers, and keeps the first."""
    kept: list[Instance] = []
    drops: list[Drop] = []
    answers: dict[str, str] = {}
    for example in examples:
        fault = _example_fault(instruction, example)
        if fault:
            drops.append(Drop(fault, f"{instruction} | {example.input} | {example.output or ''}"))
            continue
        output = example.output or ""
        known = answers.setdefault(normal(example.input), normal(output))
        if known != normal(output) and example.input.strip():
            return [], [*drops, Drop("contradictory", f"{instruction} | {example.input} | {known} | {output}")]
        if any(normal(instance.input) == normal(example.input) for instance in kept):
            drops.append(Drop("same-example", f"{instruction} | {example.input} | {output}"))
            continue
        kept.append(Instance(example.input, output))
    return kept, drops


def _example_fault(instruction: str, example: Example) -> str:
    if example.output is None:
        return "no-output"
    if not example.output.strip():
        return "empty-output"
    if is_broken(example.input) or is_broken(example.output):
        return "broken-text"
    if normal(example.output) in (normal(example.input), normal(instruction)):
        return "output-is-input"
    if example.output.rstrip().endswith((":", "：")):
        return "output-breaks-off"
    return ""
