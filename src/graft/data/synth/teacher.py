"""A request -> an OpenAI-compatible server -> its reply, however often it has to be sent."""

import asyncio
import email.utils
import ipaddress
import json
import math
import os
import random
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import httpx2

from graft.data.synth.journal import Reply
from graft.data.synth.replies import ReplyFault, said_in, usage_in
from graft.data.synth.settings import SynthSettings
from graft.errors import ConfigError, RunError
from graft.terminal import printable

Say = Callable[[str], None]
Message = dict[str, str]

_AGAIN = frozenset((408, 409, 425, 429, 500, 502, 503, 504, 529))
_LONGEST_WAIT = 60.0  # seconds that we choose ourselves; a server may ask for more
_PATIENCE = 600.0  # seconds; a server that asks for more than this is asked another day
_LONGEST_REPLY = 2**23  # bytes; no reply is that long
_REFUSALS = 8  # of single requests, in a row, that are no fault of all of them
_SHOWN = 300  # characters of a server's error


class TeacherError(RunError):
    """The teacher cannot be asked, now or at all. What it replied before is kept."""


class Teacher:
    """A client of the server. A context: leaving it closes its connections.

    Raises:
        ConfigError: the environment variable that is to hold the key does not.
    """

    def __init__(self, settings: SynthSettings, say: Say) -> None:
        self._settings = settings
        self._say = say
        self._url = f"{settings.teacher}/chat/completions"
        try:
            httpx2.URL(self._url)
        except httpx2.InvalidURL as error:
            raise ConfigError(f"--teacher {settings.teacher}: {error}", fix="e.g. http://127.0.0.1:8000/v1") from None
        self._key = ""
        if settings.api_key_env:
            self._key = os.environ.get(settings.api_key_env, "").strip()
            if not self._key or not self._key.isascii():
                what = f"the environment variable {settings.api_key_env} is not set to a key"
                raise ConfigError(what, fix=f"export {settings.api_key_env}=... or leave --api-key-env out")
        near = _is_loopback(settings.teacher)
        if self._key and not near and settings.teacher.startswith("http://"):
            say(f"the key goes to {settings.teacher} unencrypted: use https where there is any network between")
        self._client = httpx2.AsyncClient(
            headers={"Authorization": f"Bearer {self._key}"} if self._key else {},
            timeout=settings.timeout,
            limits=httpx2.Limits(max_connections=settings.concurrency),
            trust_env=not near,  # no proxy stands between this machine and itself
        )
        self._closing = asyncio.Event()
        self._limit_name = "max_tokens"
        self._refused = _REFUSALS  # in a row; a teacher that has answered nothing yet is not let off one
        self._told: set[str] = set()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self._client.aclose()

    def trust(self) -> None:
        """It has answered before: a request that it refuses may be to blame."""
        self._refused = 0

    def give_up(self) -> None:
        """Send nothing again from now on; what is under way may still be answered."""
        self._closing.set()

    async def ask(self, messages: Sequence[Message], temperature: float) -> Reply:
        """The reply to `messages`.

        Raises:
            TeacherError: the server refuses every request, or fails however often it is asked.
        """
        failure = ""
        for attempt in range(self._settings.retries + 1):
            try:
                status, body, headers = await self._send(messages, temperature)
            except (httpx2.HTTPError, TimeoutError) as error:
                failure, asked = _named(error, self._settings.timeout), None
            else:
                if status not in _AGAIN:
                    return self._reply(status, body, messages)
                failure, asked = f"HTTP {status}: {_short(body)}", _retry_after(headers.get("retry-after", ""))
            if attempt < self._settings.retries and not await self._wait(attempt, asked, failure):
                break
        times = f"{attempt + 1} times" if attempt else "once"
        what = f"{self._settings.teacher} fails ({failure}); asked {times}"
        raise TeacherError(what, fix="see to the server")

    async def _send(self, messages: Sequence[Message], temperature: float) -> tuple[int, str, httpx2.Headers]:
        while True:
            limit = self._limit_name
            sent = {
                "model": self._settings.model,
                "messages": list(messages),
                "temperature": temperature,
                limit: self._settings.answer_tokens,
            }
            async with (
                asyncio.timeout(self._settings.timeout),
                self._client.stream("POST", self._url, json=sent) as response,
            ):
                content = bytearray()
                async for part in response.aiter_bytes():
                    content += part
                    if len(content) > _LONGEST_REPLY:
                        break
            body = content[:_LONGEST_REPLY].decode("utf-8", "replace")
            if self._key:
                body = body.replace(self._key, "***")  # the journal holds what a server echoes
            if response.status_code == 400 and limit == "max_tokens" and "max_completion_tokens" in body:
                self._limit_name = "max_completion_tokens"  # newer models of OpenAI take no other name
                continue
            return response.status_code, body, response.headers

    def _reply(self, status: int, body: str, messages: Sequence[Message]) -> Reply:
        """A reply, or an error where no request can be answered."""
        if status in (401, 402, 403):
            env = self._settings.api_key_env
            fix = f"check the key in {env}" if env else "name the environment variable with the key: --api-key-env"
            raise TeacherError(f"{self._settings.teacher} lets nobody in: HTTP {status}: {_short(body)}", fix=fix)
        if status == 404:
            what = f"{self._url} or the model {self._settings.model!r} is not there: HTTP 404: {_short(body)}"
            raise TeacherError(what, fix="check --teacher (it often ends in /v1) and --model")
        self._refused = 0 if status == 200 else self._refused + 1
        if status != 200 and (not 400 <= status < 500 or self._refused > _REFUSALS):
            what = f"{self._settings.teacher} does not take the request: HTTP {status}: {_short(body)}"
            raise TeacherError(what, fix="check --teacher, --model and --answer-tokens against what the server takes")
        counted = usage_in(status, body)
        return Reply(
            status, body, counted or (prompt_estimate(messages), _reply_estimate(status, body)), counted is None
        )

    async def _wait(self, attempt: int, asked: float | None, failure: str) -> bool:
        """Wait before asking again; False where that is of no use."""
        if self._closing.is_set() or (asked or 0) > _PATIENCE:
            return False
        longest = min(self._settings.retry_seconds * 2**attempt, _LONGEST_WAIT)
        delay = asked if asked is not None else longest * random.uniform(0.5, 1)
        if failure not in self._told:  # once is enough where many requests fail alike
            self._told.add(failure)
            self._say(f"the teacher fails ({failure}): asking again in {delay:.1f} s")
        try:
            await asyncio.wait_for(self._closing.wait(), delay)
        except TimeoutError:
            return True
        return False


def prompt_estimate(messages: Sequence[Message]) -> int:
    """Tokens of a prompt, about: 3 bytes each. English has 4 bytes a token, and a Chinese character 3 bytes."""
    return sum(len(message["content"].encode("utf-8", "replace")) for message in messages) // 3 + 8 * len(messages)


def _reply_estimate(status: int, body: str) -> int:
    """Tokens of a reply, likewise."""
    try:
        return len(said_in(status, body).text.encode("utf-8", "replace")) // 3 + 1
    except ReplyFault:
        return 0


def _retry_after(value: str) -> float | None:
    """Seconds that a server asks to wait, given as such or as a date; None where it does not."""
    try:
        seconds = float(value)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(value).timestamp() - time.time()
        except (ValueError, OverflowError):
            return None
    return max(0.0, seconds) if math.isfinite(seconds) else None


def _short(body: str) -> str:
    """An error's own words."""
    try:
        value: Any = json.loads(body)
    except (ValueError, RecursionError):
        value = body
    while isinstance(value, dict):
        value = next((value[key] for key in ("error", "message", "detail") if value.get(key)), str(value))
    return printable(" ".join(str(value).split())[:_SHOWN].encode("utf-8", "replace").decode()) or "no words"


def _named(error: Exception, timeout: float) -> str:
    if isinstance(error, TimeoutError | httpx2.TimeoutException):
        return f"no reply within {timeout:g} s"
    return str(error) or type(error).__name__


def _is_loopback(address: str) -> bool:
    host = urlsplit(address).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
