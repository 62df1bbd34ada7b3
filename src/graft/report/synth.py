"""What `graft synth` made and left out, in words."""

import re
from collections.abc import Mapping
from typing import Any

REASONS = {
    "alike": "ROUGE-L with a seed or an earlier instruction is above the bound; it follows the bar",
    "keyword": "it speaks of pictures, files, sound and the like",
    "too-short": "fewer than 4 words (in Chinese: characters)",
    "too-long": "more than 150 words (in Chinese: characters)",
    "begins-with-punctuation": "the instruction begins with neither letter nor digit",
    "asks-for-a-program": "it begins with an order to write a program",
    "other-language": "it is not in the language that was asked for",
    "broken-text": "lost, wrongly decoded or unreadable characters",
    "cut-off": "a list that was cut at the longest reply; its last item is left out",
    "no-list": "a reply without a list",
    "neither-yes-nor-no": "whether the task is classification is not said",
    "no-examples": "a reply without examples in the form asked for",
    "no-output": "an example without an output, or cut at the longest reply",
    "empty-output": "an example with an empty output",
    "output-is-input": "an output that repeats the input or the instruction",
    "output-breaks-off": "an output that ends with a colon",
    "contradictory": "examples with one input and different outputs; none of the task is kept",
    "same-example": "an example that stands twice, or a second answer where there is no input",
    "empty-reply": "a reply without words",
    "not-a-completion": "a reply that is no chat completion",
    "refused-by-teacher": "the server refused the request",
}
"""Why something is left out, by the name under which it is counted."""


def synth_report(report: Mapping[str, Any]) -> str:
    """The report of a run in Markdown, made of what `report.json` says."""
    requests = ", ".join(f"{count:,} for {stage}" for stage, count in report["requests"].items()) or "none"
    tokens = f"{report['prompt_tokens']:,} of prompts, {report['reply_tokens']:,} of replies"
    if estimated := report["requests_with_estimated_tokens"]:
        tokens += f"; estimated for {estimated:,} replies, as the server did not count them"
    languages = ", ".join(f"{count:,} {name}" for name, count in report["languages"].items())
    lines = [
        "# Synthetic data",
        "",
        f"- stopped: {_line(report['stopped'])}",
        f"- rows: {report['rows']:,} of {report['tasks']:,} tasks ({languages}), "
        f"{report['classification_tasks']:,} of them classification",
        f"- instructions proposed: {report['instructions_proposed']:,}; on their way when the run stopped: "
        f"{report['unfinished']:,}",
        f"- replies: {requests}",
        f"- tokens: {tokens}",
        "",
        "## Left out",
        "",
    ]
    for reason, dropped in report["dropped"].items():
        lines.append(f"- {reason}: {dropped['count']:,} ({REASONS[reason]})")
        lines += [f"    - {_line(example)}" for example in dropped["examples"]]
    return "\n".join(lines if report["dropped"] else [*lines, "nothing"]) + "\n"


def _line(text: str) -> str:
    """A teacher's words in one line that neither Markdown nor a terminal takes for more."""
    plain = re.sub(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\s]+", " ", text).strip()
    return re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", plain)
