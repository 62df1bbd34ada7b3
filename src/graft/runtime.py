"""The machine under a run: device, seeds, memory, and a description of all that can change a result."""

import ctypes
import hashlib
import os
import platform
import random
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import psutil
import torch

from graft.terminal import printable

_CLEAR_REFS = Path("/proc/self/clear_refs")
_STATUS = Path("/proc/self/status")
_OWN_GROUPS = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")

_NOT_FORGOTTEN = 8 << 20  # bytes: the kernel counts pages of each thread in lots
_NO_MEMORY = ("can't allocate memory", "not enough memory", "std::bad_alloc", "_STATUS_ALLOC_FAILED", "out of memory")


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


def cache_folder() -> Path:
    """Where what can be made again is kept: the environment's GRAFT_CACHE, or a folder among the user's caches."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("GRAFT_CACHE") or f"{caches}/graft").expanduser()


def say_on_stderr(text: str) -> None:
    """Where verbs say what people should know, unless they are given another place."""
    with suppress(OSError):  # nobody reads it any more
        print(printable(text), file=sys.stderr)


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
        self._highest = 0
        self._begin()

    def bytes(self) -> int:
        return max(self._highest, self._since())

    def lap(self) -> int:
        """The most in use since the last lap, or since it was made. The next lap begins."""
        peak = self._since()
        self._highest = max(self._highest, peak)
        self._begin()
        return peak

    @property
    def has_laps(self) -> bool:
        """Whether a lap knows nothing of the one before; of the resident set, only Linux forgets its peak."""
        if self._device.type == "cuda":
            return True
        self.lap()
        return self._since() < resident_memory() + _NOT_FORGOTTEN

    def _begin(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self._device)
        else:
            _reset_resident_peak()

    def _since(self) -> int:
        if self._device.type == "cuda":
            return int(torch.cuda.max_memory_allocated(self._device))
        return _resident_peak()


def resident_memory() -> int:
    """Bytes of this process that are in memory."""
    return int(psutil.Process().memory_info().rss)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether the system or the device had no memory left for what was asked."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _NO_MEMORY)


def said_by_allocator(error: BaseException) -> str:
    """What there was no memory for, without where in its source the allocator said so."""
    return str(error).strip().partition("\n")[0].rpartition("DefaultCPUAllocator: ")[2] or type(error).__name__


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


def free_memory(device: torch.device) -> int:
    """Bytes that may still be taken on `device`; in a container, of what it may have."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return min(psutil.virtual_memory().available, *_left_in_groups())


def give_memory_back() -> None:
    """Return to the system what was freed: of pieces up to 32 MiB glibc keeps much for itself."""
    if sys.platform == "linux" and hasattr(library := ctypes.CDLL(None), "malloc_trim"):
        library.malloc_trim(0)


def _left_in_groups() -> Iterator[int]:
    """What the limit of each control group around this process leaves (cgroups(7), versions 2 and 1)."""
    yield sys.maxsize
    try:
        lines = _OWN_GROUPS.read_text().splitlines()
    except OSError:
        return  # not Linux
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers not in ("", "memory"):
            continue
        old = ("limit_in_bytes", "usage_in_bytes", "total_inactive_file")
        limit, usage, cached = old if controllers else ("max", "current", "inactive_file")
        group = Path(path.lstrip("/"))
        for folder in (_GROUPS / controllers / place for place in (group, *group.parents)):
            try:
                most, used, stat = ((folder / f"memory.{name}").read_text() for name in (limit, usage, "stat"))
            except OSError:
                continue  # the root, which has no limit, or a group that a container does not see
            files = re.search(rf"^{cached} (\d+)$", stat, re.MULTILINE)  # read, and dropped when memory is wanted
            if most.strip() != "max":
                yield max(0, int(most) - int(used) + (int(files[1]) if files else 0))


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
