"""Seed tasks -> new instructions -> which are classification -> examples -> rows, round by round.

All of it is a function of the seeds, the settings and the teacher's replies. Requests are numbered, replies are used
in the order of the numbers whenever they come, and each request is looked up in the journal before it is sent. So a run
that is gone on with runs through the journal first, comes to where it was, and asks nothing twice.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from graft.data.synth.asking import Asker, Request
from graft.data.synth.filters import Drop, good_instances, instruction_fault
from graft.data.synth.journal import Reply
from graft.data.synth.pool import Pool
from graft.data.synth.prompts import NEW_ITEMS, ask_for_instances, ask_for_instructions, ask_for_kind
from graft.data.synth.replies import ReplyFault, Said, examples, listed, said_in, yes_or_no
from graft.data.synth.seeds import Task
from graft.data.synth.settings import Language, SynthSettings
from graft.terminal import printable

Say = Callable[[str], None]

_FIRST_ROUND, _ROUND = 4, 8  # requests for instructions in a round, growing with the data; more would show older tasks
_TOGETHER = 8  # drafts that are classified before examples of them are asked for; a run that stops has few on the way
_SEEDS_SHOWN, _MADE_SHOWN = 6, 2  # tasks in a request for instructions, as Self-Instruct
_KINDS_SHOWN = 3  # tasks of each kind in a request for the kind
_TASKS_SHOWN = 3  # in a request for examples
_EXAMPLES_KEPT = 5  # of what was left out, for each reason


@dataclass
class Tally:
    """How much was left out for which reason, and the first few of each."""

    counts: dict[str, int] = field(default_factory=dict)
    shown: dict[str, list[str]] = field(default_factory=dict)

    def add(self, drop: Drop) -> None:
        self.counts[drop.reason] = self.counts.get(drop.reason, 0) + 1
        some = self.shown.setdefault(drop.reason, [])
        if len(some) < _EXAMPLES_KEPT:
            whole = drop.what[:300].encode("utf-8", "replace").decode()  # it may hold half a surrogate pair
            some.append(printable(whole))


@dataclass
class _Draft:
    """An instruction that joined the pool, on its way to be a task."""

    instruction: str
    language: Language
    labels: bool = False


class Growth:
    """A data set that grows.

    Args:
        seeds: the tasks that it grows from; they are shown to the teacher and are no part of the data.
        settings: of the run.
        say: told after every round.
    """

    def __init__(self, seeds: Sequence[Task], settings: SynthSettings, say: Say) -> None:
        self._settings = settings
        self._say = say
        wanted: list[Language] = ["en", "zh"] if settings.language == "both" else [settings.language]
        self._seeds = {name: [task for task in seeds if task.language == name] for name in wanted}
        self._languages = [name for name in wanted if self._seeds[name]]
        self._only = None if settings.language == "both" else settings.language
        self._pool = Pool(settings.most_alike)
        self._known: list[str] = []
        for some in self._seeds.values():
            for task in some:
                self._join(task.instruction)
        self._asked = 0
        self.made: list[Task] = []
        self.dropped = Tally()
        self.proposed = 0
        self.unfinished = 0
        self.stopped = ""

    @property
    def tasks(self) -> list[Task]:
        """The tasks that the rows are of, in their order."""
        before = accumulate((len(task.instances) for task in self.made), initial=0)
        return [task for task, rows in zip(self.made, before, strict=False) if rows < self._settings.count]

    @property
    def rows(self) -> list[dict[str, str]]:
        """The data so far, in Alpaca's format."""
        found = [
            {"instruction": task.instruction, "input": instance.input, "output": instance.output}
            for task in self.tasks
            for instance in task.instances
        ]
        return found[: self._settings.count]

    def _rows_made(self) -> int:
        return sum(len(task.instances) for task in self.made)

    async def run(self, asker: Asker) -> None:
        """Grow until there are enough rows, the asker ends, or the teacher has nothing new to say."""
        barren = 0
        while (had := self._rows_made()) < self._settings.count:
            await self._round(asker)
            rows = self._rows_made()
            self._say(f"{min(rows, self._settings.count)}/{self._settings.count} rows, {len(asker.journal)} replies")
            if asker.ended and rows < self._settings.count:
                self.stopped = asker.ended
                return
            barren = 0 if rows > had else barren + 1
            if barren == self._settings.patience:
                self.stopped = f"{barren} rounds without a new row: {self._why_barren()}"
                return
        self.stopped = "all rows are made"

    def _why_barren(self) -> str:
        if not self.dropped.counts:
            return "the teacher proposes nothing"
        reason = max(self.dropped.counts, key=lambda name: self.dropped.counts[name])
        return f"most was left out as {reason}, such as {self.dropped.shown[reason][0][:120]!r}"

    async def _round(self, asker: Asker) -> None:
        requests = []
        languages = []
        for _ in range(min(max(len(self.made) // NEW_ITEMS, _FIRST_ROUND), _ROUND)):
            language = self._languages[self._asked % len(self._languages)]
            shown = self._drawn(language)
            languages.append(language)
            prompt = ask_for_instructions(shown, language)
            requests.append(Request("instructions", prompt, self._settings.temperature, self._asked))
            self._asked += 1
        drafts: list[_Draft] = []
        for language, reply in zip(languages, await asker.replies(requests), strict=False):
            drafts += self._new_instructions(reply, language)
        together = max(_TOGETHER, self._settings.concurrency)
        for start in range(0, len(drafts), together):
            if self._rows_made() >= self._settings.count:
                return  # the count says where to stop, and nothing else: a larger one goes on from here
            await self._exemplify(asker, await self._classify(asker, drafts[start : start + together]))

    def _drawn(self, language: Language) -> list[Task]:
        """The tasks that the next request for instructions shows, in mixed order."""
        draw = random.Random(f"{self._settings.seed} {self._asked}")
        made = [task for task in self.made if task.language == language]
        some = draw.sample(made, min(_MADE_SHOWN, len(made)))
        seeds = self._seeds[language]
        some += draw.sample(seeds, min(_SEEDS_SHOWN + _MADE_SHOWN - len(some), len(seeds)))
        draw.shuffle(some)
        return some

    def _new_instructions(self, reply: Reply, language: Language) -> list[_Draft]:
        said = self._read(reply)
        try:
            items = listed(said) if said else []
        except ReplyFault as fault:
            self.dropped.add(Drop(fault.reason, str(fault)))
            return []
        if said and not said.whole:
            self.dropped.add(Drop("cut-off", said.text[-100:]))
        drafts = []
        for item in filter(None, items):
            self.proposed += 1
            drop = instruction_fault(item, self._only)
            if drop is None and (number := self._pool.alike(item)) is not None:
                drop = Drop("alike", f"{item} | {self._known[number]}")
            if drop:
                self.dropped.add(drop)
                continue
            self._join(item)
            drafts.append(_Draft(item, language))
        return drafts

    def _join(self, instruction: str) -> None:
        self._pool.add(instruction)
        self._known.append(instruction)

    async def _classify(self, asker: Asker, drafts: list[_Draft]) -> list[_Draft]:
        requests = []
        for draft in drafts:
            kinds = (True, False)
            shown = [task for kind in kinds for task in self._shown(draft, _KINDS_SHOWN, labels=kind)]
            random.Random(draft.instruction).shuffle(shown)
            prompt = ask_for_kind(draft.instruction, shown, draft.language)
            requests.append(Request("classification", prompt, 0.0))
        replies = await asker.replies(requests)
        self.unfinished += len(drafts) - len(replies)
        classified = []
        for draft, reply in zip(drafts, replies, strict=False):
            said = self._read(reply)
            if said is None:
                continue
            try:
                draft.labels = yes_or_no(said)
            except ReplyFault as fault:
                self.dropped.add(Drop(fault.reason, f"{draft.instruction} | {fault}"))
                continue
            classified.append(draft)
        return classified

    async def _exemplify(self, asker: Asker, drafts: list[_Draft]) -> None:
        requests = []
        for draft in drafts:
            shown = self._shown(draft, _TASKS_SHOWN, labels=draft.labels)
            prompt = ask_for_instances(
                draft.instruction, shown, draft.language, labels=draft.labels, count=self._settings.instances
            )
            requests.append(Request("instances", prompt, 0.0))
        replies = await asker.replies(requests)
        self.unfinished += len(drafts) - len(replies)
        for draft, reply in zip(drafts, replies, strict=False):
            said = self._read(reply)
            if said is None:
                continue
            try:
                found = examples(said, output_first=draft.labels)[: self._settings.instances]
            except ReplyFault as fault:
                self.dropped.add(Drop(fault.reason, f"{draft.instruction} | {fault}"))
                continue
            kept, drops = good_instances(draft.instruction, found)
            for drop in drops:
                self.dropped.add(drop)
            if kept:
                self.made.append(
                    Task(f"made-{len(self.made) + 1}", draft.instruction, tuple(kept), is_classification=draft.labels)
                )

    def _shown(self, draft: _Draft, count: int, *, labels: bool) -> list[Task]:
        """Seeds of a kind, the same whenever the same instruction is asked about."""
        some = [task for task in self._seeds[draft.language] if task.is_classification == labels]
        return random.Random(f"{self._settings.seed} {draft.instruction}").sample(some, min(count, len(some)))

    def _read(self, reply: Reply) -> Said | None:
        try:
            return said_in(reply.status, reply.body)
        except ReplyFault as fault:
            self.dropped.add(Drop(fault.reason, str(fault)))
            return None
