"""The machine under a run: device, seeds, memory, and a description of all that can change a result."""

import hashlib
import os
import platform
import random
import sys
from pathlib import Path

import psutil
import torch

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")


def pick_device() -> torch.device:
    """The first CUDA device where there is one, else the CPU. CUDA_VISIBLE_DEVICES chooses among several."""
    return torch.device("cuda", 0) if torch.cuda.is_available() else torch.device("cpu")


def stream_dtype(device: torch.device, stored: torch.dtype) -> torch.dtype:
    """The type in which a model whose weights are `stored` runs on `device`: the faster one that loses nothing.

    A CPU without instructions for half precision emulates it, several times slower than float32.
    """
    if device.type != "cpu" or stored.itemsize >= 4 or _has_instructions_for(stored):
        return stored
    return torch.float32


def _has_instructions_for(dtype: torch.dtype) -> bool:
    if dtype == torch.float16:
        return torch.cpu._is_amx_fp16_supported()
    if platform.machine().lower() in ("x86_64", "amd64"):
        return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def say_on_stderr(text: str) -> None:
    """Where verbs say what people should know, unless they are given another place."""
    print(text, file=sys.stderr)


def seed_everything(seed: int) -> None:
    """Seed every generator that a run may draw from and ask for deterministic kernels."""
    random.seed(seed)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True, warn_only=True)


def derived_seed(*parts: object) -> int:
    """A seed made of `parts`, the same on every machine: `derived_seed(42, "order", epoch)`."""
    digest = hashlib.sha256("/".join(map(str, parts)).encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1  # torch takes 63 bits


class PeakMemory:
    """The most memory in use since it was made, in bytes: the device's on CUDA, else the process's resident set."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(device)
        else:
            _reset_resident_peak()

    def bytes(self) -> int:
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        return _resident_peak()


def _reset_resident_peak() -> None:
    try:
        _CLEAR_REFS.write_text("5")  # proc(5): 5 resets the peak resident set size
    except OSError:
        return  # not Linux, or forbidden: the peak is then that of the whole process


def _resident_peak() -> int:
    try:
        for line in _STATUS.read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    import resource  # not on Windows, which has no /proc either

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024


def environment() -> dict[str, object]:
    """Versions and hardware, as `environment.json` keeps them."""
    import tokenizers
    import transformers

    from graft import __version__

    return {
        "graft": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "tokenizers": tokenizers.__version__,
        "platform": platform.platform(),
        "cpu": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_bytes": psutil.virtual_memory().total,
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }
