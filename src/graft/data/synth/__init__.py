"""Self-Instruct (Wang et al. 2022, arXiv 2212.10560): data that a teacher model makes from seed tasks.

`grow` has the rounds; `pool` finds what is alike; `journal` keeps every reply, so that nothing is asked twice.
"""

from graft.data.synth.asking import Asker
from graft.data.synth.grow import Growth, Tally
from graft.data.synth.journal import Journal
from graft.data.synth.pool import Pool
from graft.data.synth.prompts import PROMPTS
from graft.data.synth.seeds import Task, prompts_hash, read_seeds, seeds_hash
from graft.data.synth.settings import SynthSettings, build_settings, read_settings, refuse_changes, write_settings
from graft.data.synth.teacher import Teacher, TeacherError

__all__ = [
    "PROMPTS",
    "Asker",
    "Growth",
    "Journal",
    "Pool",
    "SynthSettings",
    "Tally",
    "Task",
    "Teacher",
    "TeacherError",
    "build_settings",
    "prompts_hash",
    "read_seeds",
    "read_settings",
    "refuse_changes",
    "seeds_hash",
    "write_settings",
]
