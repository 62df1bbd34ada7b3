"""Requests in their order -> replies in the same order: from the journal, or from the teacher, within the budget."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from graft.data.calls import as_json
from graft.data.synth.journal import Journal, Reply
from graft.data.synth.settings import SynthSettings
from graft.data.synth.teacher import Message, Teacher, TeacherError, prompt_estimate


@dataclass(frozen=True)
class Request:
    """What the teacher is asked.

    Args:
        number: tells requests apart that may ask the same and want another reply.
    """

    stage: str
    prompt: str
    temperature: float
    number: int = 0

    @property
    def messages(self) -> list[Message]:
        return [{"role": "user", "content": self.prompt}]

    def key(self) -> str:
        """A hash of all that is asked."""
        asked = as_json([self.stage, self.number, self.temperature, self.prompt])
        return hashlib.sha256(asked.encode()).hexdigest()


class Asker:
    """Asks what the journal does not hold.

    Args:
        teacher: None to ask nothing, and use the journal alone.
    """

    def __init__(self, settings: SynthSettings, journal: Journal, teacher: Teacher | None) -> None:
        self._settings = settings
        self._teacher = teacher
        self.journal = journal
        self.ended = ""
        """Why nothing more is asked; "" while it is."""
        self.failure: TeacherError | None = None
        if teacher and len(journal):
            teacher.trust()

    async def replies(self, requests: Sequence[Request]) -> list[Reply]:
        """The replies to `requests`, as far as there are replies to all that stand before.

        What is asked depends on no order of arrival: a request is sent if those before it have left enough of the
        budget, and where it depends on what is under way, that is waited for.
        """
        keys = [request.key() for request in requests]
        under_way: dict[asyncio.Task[None], int] = {}
        try:
            for key, request in zip(keys, requests, strict=True):
                if self.journal.get(key) is None and not await self._send(key, request, under_way):
                    break
            await self._gather(under_way, 0)
        finally:
            for task in under_way:
                task.cancel()
        found = []
        for key in keys:
            reply = self.journal.get(key)
            if reply is None:
                break
            found.append(reply)
        return found

    async def _send(self, key: str, request: Request, under_way: dict[asyncio.Task[None], int]) -> bool:
        """Begin to ask; False where the budget or the teacher is at an end."""
        most = prompt_estimate(request.messages) + self._settings.answer_tokens
        await self._gather(under_way, self._settings.concurrency - 1)
        while not self.ended and (bound := self._spent(most, under_way)):
            if not under_way:
                self.ended = bound
                break
            await self._gather(under_way, len(under_way) - 1)
        if self._teacher is None:
            self.ended = self.ended or "nothing more is asked"
        if self.ended or self._teacher is None:
            return False
        under_way[asyncio.create_task(self._ask(self._teacher, key, request))] = most
        return True

    def _spent(self, most: int, under_way: dict[asyncio.Task[None], int]) -> str:
        """Which budget another request might overrun; "" where none."""
        settings, journal = self._settings, self.journal
        if settings.max_requests and len(journal) + len(under_way) >= settings.max_requests:
            return f"the budget of {settings.max_requests:,} requests is used up"
        if settings.max_tokens and journal.tokens + sum(under_way.values()) + most > settings.max_tokens:
            left = max(0, settings.max_tokens - journal.tokens)
            return f"the {left:,} tokens that are left of {settings.max_tokens:,} are too few for another request"
        return ""

    async def _gather(self, under_way: dict[asyncio.Task[None], int], left: int) -> None:
        """Wait until at most `left` are under way."""
        while len(under_way) > left:
            done, _ = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                del under_way[task]
                task.result()  # a defect of ours is not lost

    async def _ask(self, teacher: Teacher, key: str, request: Request) -> None:
        try:
            reply = await teacher.ask(request.messages, request.temperature)
        except TeacherError as error:
            teacher.give_up()
            self.failure = self.failure or error
            self.ended = self.ended or "the teacher fails"
            return
        self.journal.put(key, request.stage, reply)
