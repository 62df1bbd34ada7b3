"""Every reason for which something is left out has its words, and the report has room for anything."""

import re
from pathlib import Path
from typing import Any

import graft.data.synth
from graft.report.synth import REASONS, synth_report

REPORT: dict[str, Any] = {
    "stopped": "all rows are made",
    "rows": 1200,
    "tasks": 1000,
    "classification_tasks": 10,
    "languages": {"en": 600, "zh": 400},
    "instructions_proposed": 2000,
    "unfinished": 0,
    "dropped": {"alike": {"count": 3, "examples": ["写一首诗 | 写一首\n# 诗", "<b>x</b>"]}},
    "requests": {"instructions": 250, "classification": 1000},
    "prompt_tokens": 1_000_000,
    "reply_tokens": 20,
    "requests_with_estimated_tokens": 0,
}


def test_every_reason_has_its_words() -> None:
    sources = [path.read_text(encoding="utf-8") for path in Path(graft.data.synth.__file__).parent.glob("*.py")]
    named = {
        name
        for source in sources
        for pattern in (
            r'(?:Drop|ReplyFault)\(\s*"([a-z-]+)"',
            r'\("([a-z-]+)", [^"]+\),\n',
            r'return "([a-z]+-[a-z-]+)"\n',
        )
        for name in re.findall(pattern, source)
    }
    assert named == REASONS.keys()


def test_the_report_says_all_and_takes_no_words_for_marks() -> None:
    text = synth_report(REPORT)
    assert "rows: 1,200 of 1,000 tasks (600 en, 400 zh), 10 of them classification" in text
    assert "alike: 3 (" in text
    assert "写一首诗 \\| 写一首 \\# 诗" in text
    assert "\\<b\\>" in text
    assert "estimated" not in text
    assert "estimated for 7 replies" in synth_report({**REPORT, "requests_with_estimated_tokens": 7})
    assert synth_report({**REPORT, "dropped": {}, "requests": {}}).endswith("nothing\n")
