"""Settings of every test."""

import os
import tempfile

import torch
from hypothesis import settings

_CACHE = tempfile.TemporaryDirectory(prefix="graft-cache-")
os.environ["GRAFT_CACHE"] = _CACHE.name  # also for the processes that tests start; a user's own cache is left alone

torch.set_num_threads(1)  # the models are tiny: a second thread costs more than it gives, above all on a busy machine

# A busy machine is no fault of the code, so no example has a time limit; what is slow shows in `pytest --durations`.
# 60 examples keep `make test` quick; one that fails is kept and tried first the next time.
settings.register_profile("graft", deadline=None, max_examples=60)
settings.load_profile("graft")
