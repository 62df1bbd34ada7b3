"""A teacher that follows a script: a real HTTP server on this machine."""

import json
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

ENGLISH = [
    first + second
    for first in ("bar", "cel", "dom", "fen", "gil", "hov", "jun", "kas")
    for second in (
        "ato",
        "bin",
        "cer",
        "dul",
        "esk",
        "fop",
        "gar",
        "hin",
        "ilo",
        "jat",
        "kem",
        "lud",
        "mor",
        "nis",
        "oph",
        "pud",
    )
]
CHINESE = "山水火木金土风雨雪月星花草鸟鱼虫马牛羊狗云江河湖海田园村路桥船车灯书笔纸茶酒米面豆瓜果叶根石沙泥"


@dataclass(frozen=True)
class Asked:
    """A request, as the server saw it."""

    path: str
    headers: dict[str, str]
    sent: dict[str, Any]

    @property
    def prompt(self) -> str:
        return str(self.sent["messages"][0]["content"])

    @property
    def stage(self) -> str:
        last = self.prompt.rstrip().rsplit("\n", 1)[-1]
        if re.fullmatch(r"\d+\.", last):
            return "instructions"
        return "classification" if last in ("Classification:", "分类任务：") else "instances"


@dataclass(frozen=True)
class Answer:
    """What the server sends back."""

    body: str | bytes
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)


def completion(text: str, *, finish: str = "stop", usage: bool = True) -> Answer:
    reply: dict[str, Any] = {"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": finish}]}
    if usage:
        reply["usage"] = {"prompt_tokens": 100, "completion_tokens": 20, "total_tokens": 120}
    return Answer(json.dumps(reply))


def good(asked: Asked) -> Answer:
    """A good teacher, whose replies depend on what is asked alone."""
    draw = random.Random(asked.prompt)
    chinese = "任务" in asked.prompt
    if asked.stage == "instructions":
        start = int(asked.prompt.rstrip().rsplit("\n", 1)[-1].rstrip("."))
        lines = []
        for number in range(start, start + 8):
            said = [draw.choice(CHINESE if chinese else ENGLISH) for _ in range(9)]
            kind = draw.choice(("判断", "解释", "说明") if chinese else ("Decide", "Explain", "Tell"))
            lines.append(f"{number}. " + (f"{kind}{''.join(said)}" if chinese else f"{kind} {' '.join(said)}"))
        return completion("\n".join(lines))
    if asked.stage == "classification":
        last = asked.prompt.rstrip().rsplit("\n", 2)[-2]
        return completion(("是" if "判断" in last else "否") if chinese else ("Yes" if "Decide" in last else "No"))
    if "先写一个标签" in asked.prompt:
        return completion("类别：属于\n输入：一座很高的山\n\n类别：不属于\n输入：一条安静的鱼")
    if "a label first" in asked.prompt:
        return completion("Class label: first\nInput: a ferry at dawn\n\nClass label: second\nInput: a beehive in May")
    if chinese:
        return completion(f"输入：无\n输出：因为它们彼此相连，编号 {draw.randrange(9973)}。")
    return completion(f"Input: none\nOutput: It is so because of reason {draw.randrange(9973)}.")


class Server:
    """The server, and all that it was asked."""

    def __init__(self, script: Callable[[Asked], Answer]) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self.most_at_once = 0
        self._now = 0
        lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else an answer waits 40 ms for the client's acknowledgement

            def do_POST(self) -> None:
                sent = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                asked = Asked(self.path, {k.lower(): v for k, v in self.headers.items()}, sent)
                with lock:
                    server.asked.append(asked)
                    server._now += 1
                    server.most_at_once = max(server.most_at_once, server._now)
                try:
                    answer = server.script(asked)
                finally:
                    with lock:
                        server._now -= 1
                body = answer.body if isinstance(answer.body, bytes) else answer.body.encode()
                self.send_response(answer.status)
                for name, value in {"Content-Length": str(len(body)), **answer.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None: ...

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None: ...  # a client that was killed

        self.http = Quiet(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.http.server_address[1]}/v1"

    @property
    def prompts(self) -> list[str]:
        return [asked.prompt for asked in self.asked]


@contextmanager
def serving(script: Callable[[Asked], Answer] = good) -> Iterator[Server]:
    server = Server(script)
    thread = threading.Thread(target=server.http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.http.shutdown()
        server.http.server_close()
        thread.join()
