"""Every reply of the teacher, on disk before it is used: what is in the journal is never asked again.

A line a reply: `{"key", "stage", "status", "body", "tokens": [prompt, reply], "estimated"}`. The key is a hash of all
that was asked. A line is flushed to the disk before the next step; one that a kill has torn is cut off.
"""

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from graft.data.calls import parse_json
from graft.errors import RunError


@dataclass(frozen=True)
class Reply:
    """What came back for a request.

    Args:
        status: of HTTP.
        body: all that the server sent.
        tokens: of prompt and reply.
        estimated: the server did not count them.
    """

    status: int
    body: str
    tokens: tuple[int, int]
    estimated: bool


class Journal:
    """The journal of a run; no second process can open it meanwhile.

    Raises:
        RunError: another process has it open, or a line other than the last is broken.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._replies: dict[str, Reply] = {}
        self.requests: dict[str, int] = {}
        """Replies of each stage."""
        self.prompt_tokens = self.reply_tokens = self.estimated = 0
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._file.close()
            what = f"{path.parent} is in use by another `graft synth`"
            raise RunError(what, fix="wait for it, or give another --out") from None
        self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._replies)

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.reply_tokens

    def get(self, key: str) -> Reply | None:
        return self._replies.get(key)

    def put(self, key: str, stage: str, reply: Reply) -> None:
        """Write a reply down; it is on the disk when this returns."""
        line = json.dumps({"key": key, "stage": stage, **asdict(reply)})  # ASCII: a body may hold half a surrogate pair
        self._file.write(line.encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        self._count(key, stage, reply)

    def _count(self, key: str, stage: str, reply: Reply) -> None:
        self._replies[key] = reply
        self.requests[stage] = self.requests.get(stage, 0) + 1
        self.prompt_tokens += reply.tokens[0]
        self.reply_tokens += reply.tokens[1]
        self.estimated += reply.estimated

    def _read(self) -> None:
        self._file.seek(0)
        end = 0
        for number, line in enumerate(self._file, start=1):
            if not line.endswith(b"\n"):
                break  # torn by a kill: that reply counts as never come
            try:
                value = parse_json(line.decode())
                prompt, answer = value["tokens"]
                reply = Reply(int(value["status"]), str(value["body"]), (int(prompt), int(answer)), value["estimated"])
                self._count(str(value["key"]), str(value["stage"]), reply)
            except (ValueError, KeyError, TypeError) as error:
                what = f"{self.path}:{number}: not a reply: {type(error).__name__}: {error}"
                raise RunError(what, fix="take the line out; what it answered is asked again") from None
            end += len(line)
        self._file.truncate(end)
