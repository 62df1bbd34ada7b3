"""`graft` lives by the hundred: a process that has everything imported, and forks for each life.

A line of JSON on standard input is a life: its arguments, where its words go, and what befalls it. The answers are its
process id and, when it has ended, how. Nothing of ours is replaced in a life: faults are those of the calls of the
operating system, and a signal comes when a named function is entered.
"""

import errno
import json
import os
import resource
import signal
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

CALLS = ("write", "fsync", "rename", "replace", "open", "mkdir")


def main() -> None:
    from graft.cli import main as graft

    orders = sys.stdin
    with Path(os.devnull).open() as sys.stdin:
        warm = json.loads(orders.readline())
        run(graft, warm)  # here, not in a child: what it imports and keeps, every life has
        print("ready", flush=True)
        while line := orders.readline():
            pid = os.fork()
            if pid == 0:
                os._exit(run(graft, json.loads(line)))
            print(pid, flush=True)
            orders.readline()  # until then the process id is nobody else's, though the life may be over
            _, status = os.waitpid(pid, 0)
            print(os.waitstatus_to_exitcode(status), flush=True)


def run(graft: Any, life: dict[str, Any]) -> int:
    words = os.open(life["words"], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    answers = os.dup(1)
    os.dup2(words, 1)
    os.dup2(words, 2)
    if fault := life.get("fault"):
        break_calls(**fault)
    if limit := life.get("longest_file"):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
    if memory := life.get("memory"):
        limit_memory(**memory)
    if signals := life.get("signals"):
        send_signals(**signals)
    sys.argv = ["graft", *life["arguments"]]
    code = 0
    try:
        graft()
    except SystemExit as end:
        code = int(end.code or 0)
    sys.stdout.flush()
    sys.stderr.flush()
    os.dup2(answers, 1)
    return code


def break_calls(call: str, number: int, name: str, below: str, metrics: bool) -> None:
    """The call `call` fails with the error `name` the `number`-th time that it is for a file below the folder `below`.

    Those for metrics.jsonl are counted by themselves, as they come from another thread than a checkpoint's.
    """
    real = getattr(os, call)
    done: Counter[str] = Counter()

    def broken(first: Any, *rest: Any, **named: Any) -> Any:
        path = os.readlink(f"/proc/self/fd/{first}") if isinstance(first, int) else os.fspath(first)
        reads = call == "open" and not rest[0] & (os.O_WRONLY | os.O_RDWR)
        there = call == "mkdir" and os.path.isdir(path)
        changes = isinstance(path, str) and path.startswith(below) and not reads and not there
        if changes and ("metrics" in path) == metrics:
            done["calls"] += 1
            if done["calls"] == number:
                Path(f"{below}.broken").touch()
                if call == "write":
                    real(first, rest[0][: len(rest[0]) // 2])  # a disk fills in the middle of something
                raise OSError(getattr(errno, name), os.strerror(getattr(errno, name)))
        return real(first, *rest, **named)

    setattr(os, call, broken)


def send_signals(function: str, number: int, names: list[str]) -> None:
    """Send these signals to oneself when the function of this qualified name is entered the `number`-th time.

    Each is sent when the one before has been taken, and whatever that did: of two that are pending together, neither
    the kernel, which may give them to two threads, nor Python says which one comes first.
    """
    taken = threading.Semaphore(0)

    def send(name: str, *later: str) -> None:
        try:
            signal.raise_signal(getattr(signal, name))  # in the main thread it is taken before this returns
            if later and threading.current_thread() is not threading.main_thread():
                assert taken.acquire(timeout=60), f"nobody takes {name}"
        finally:
            if later:
                send(*later)

    def watch(frame: FrameType, event: str, argument: object) -> None:
        if event == "return" and frame.f_code.co_qualname == "StopSignals._hear":
            taken.release()

    at_entry(function, number, lambda: send(*names), watch)


def limit_memory(function: str, more: int) -> None:
    """From when this function is entered first, the process may have so many bytes more than it has then."""

    def limit() -> None:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + more
        resource.setrlimit(resource.RLIMIT_AS, (most, most))

    at_entry(function, 1, limit)


def at_entry(
    function: str, number: int, act: Callable[[], None], watch: Callable[[FrameType, str, object], None] | None = None
) -> None:
    """Act when the function of this qualified name is entered the `number`-th time.

    Args:
        watch: is shown all that other threads enter and leave, before and after.
    """
    done: Counter[str] = Counter()

    def entered(frame: FrameType, event: str, argument: object) -> None:
        if watch:
            watch(frame, event, argument)
        if event == "call" and frame.f_code.co_qualname == function:
            done["calls"] += 1
            if done["calls"] == number:
                sys.setprofile(None)
                act()

    threading.setprofile(entered)
    sys.setprofile(entered)


if __name__ == "__main__":
    main()
