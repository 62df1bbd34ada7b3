"""What is wrong with rows, before anything is trained on them: one function a check, registered by name."""

from graft.data.checks import copies, rows, text, tokens, tools  # they register their checks
from graft.data.checks.alphabet import Alphabet
from graft.data.checks.contract import (
    CHECKS,
    FAULTY,
    FOREIGN,
    SAID,
    Check,
    Found,
    Seen,
    Severity,
    Subject,
    Terms,
    counted,
)
from graft.data.checks.copies import same
from graft.data.checks.examine import Finding, Watch, examine, find
from graft.data.checks.mend import Cleaner
from graft.data.checks.survey import Survey

assert all((copies, rows, text, tokens, tools))

__all__ = [
    "CHECKS",
    "FAULTY",
    "FOREIGN",
    "SAID",
    "Alphabet",
    "Check",
    "Cleaner",
    "Finding",
    "Found",
    "Seen",
    "Severity",
    "Subject",
    "Survey",
    "Terms",
    "Watch",
    "counted",
    "examine",
    "find",
    "same",
]
