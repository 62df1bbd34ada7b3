"""Settings of every test."""

import torch

torch.set_num_threads(1)  # the models are tiny: a second thread costs more than it gives, above all on a busy machine
