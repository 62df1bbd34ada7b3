"""What is wrong with rows, before anything is trained on them: one function a check, registered by name."""

from graft.data.checks import copies, rows, text, tokens, tools  # they register their checks
from graft.data.checks.contract import CHECKS, Check, Found, Seen, Severity, Subject, counted
from graft.data.checks.copies import same
from graft.data.checks.examine import Finding, Watch, examine, find
from graft.data.checks.mend import Cleaned, clean

assert all((copies, rows, text, tokens, tools))

__all__ = [
    "CHECKS",
    "Check",
    "Cleaned",
    "Finding",
    "Found",
    "Seen",
    "Severity",
    "Subject",
    "Watch",
    "clean",
    "counted",
    "examine",
    "find",
    "same",
]
