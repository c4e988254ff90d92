"""
The load under which the recorded engines were, drawn again from the recordings' seeds.

The recordings in tests/data/captures were made by driving vLLM's own cache manager through a small scheduling
loop. Here the same loop drives ours: same requests, same order, same budgets. Every draw from a generator must
stay as it is, or the load is another one.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random

from tests.unit.engine.load import make_request

from kvsync.engine.cache import FULL_ATTENTION, PrefixCache
from kvsync.engine.events import CacheEvent, GroupSpec, Lora
from kvsync.engine.hashing import BlockHasher
from kvsync.engine.pool import BlockPool
from kvsync.engine.request import Image, Request

BLOCK_SIZE = 16
BUDGET = 512
RUNNING_MAX = 16
VOCABULARY = 151_000
SHARED_LENGTHS = (300, 128, 520, 64, 210)
HYBRID = (GroupSpec(), GroupSpec(6 * BLOCK_SIZE), GroupSpec(6 * BLOCK_SIZE))


@dataclass(frozen=True, slots=True)
class Recorded:
    """The settings of one recording: how often its requests have what, and at which part of the load it is reset."""

    seed: int
    blocks: int
    requests: int
    ranks: int = 1
    groups: tuple[GroupSpec, ...] = FULL_ATTENTION
    resets: tuple[float, ...] = ()
    restarts: tuple[float, ...] = ()
    lora: float = 0
    salt: float = 0
    image: float = 0
    full_report: float = 0
    session: float = 0


@dataclass(slots=True, eq=False)
class Job:
    """A request and the tokens it will answer."""

    request: Request
    todo: list[int]


@dataclass(slots=True)
class RecordedRank:
    """One rank under the recorded loop: our cache, their order of calls."""

    recorded: Recorded
    empty_first: bool
    waiting: list[Job] = field(default_factory=list)
    running: list[Job] = field(default_factory=list)
    cache: PrefixCache = field(init=False)

    def __post_init__(self) -> None:
        self.cache = PrefixCache(
            BlockPool(self.recorded.blocks, empty_first=self.empty_first),
            block_size=BLOCK_SIZE,
            hasher=BlockHasher(0),
            groups=self.recorded.groups,
        )

    def step(self) -> list[CacheEvent]:
        """Live one step and give what it announced."""
        budget = self._admit(self._continue(BUDGET))
        assert budget >= 0
        for job in list(self.running):
            if job.request.uncomputed:
                continue
            if job.todo:
                job.request.tokens.append(job.todo.pop(0))
            else:
                self.cache.release(job.request)
                self.running.remove(job)
        return self.cache.pool.take_events()

    def reset(self) -> None:
        """Preempt what runs and empty the cache."""
        while self.running:
            self._preempt(self.running.pop())
        assert self.cache.pool.reset()

    def _continue(self, budget: int) -> int:
        for job in list(self.running):
            count = min(job.request.uncomputed, budget)
            if job not in self.running or count <= 0:
                continue
            while not self.cache.allocate(job.request, count):
                victim = self.running.pop()
                self._preempt(victim)
                if victim is job:
                    count = 0
                    break
            job.request.computed += count
            budget -= count
        return budget

    def _admit(self, budget: int) -> int:
        while self.waiting and budget > 0 and len(self.running) < RUNNING_MAX:
            request = self.waiting[0].request
            hit = self.cache.look_up(request)
            count = min(len(request.tokens) - hit.tokens, budget)
            if not self.cache.allocate(request, count, hit):
                break
            request.computed += count
            budget -= count
            self.running.append(self.waiting.pop(0))
        return budget

    def _preempt(self, job: Job) -> None:
        self.cache.release(job.request)
        self.waiting.insert(0, job)


def live(recorded: Recorded, rank: int, *, empty_first: bool) -> Iterator[tuple[int, list[CacheEvent]]]:
    """Live one rank's recorded life: yields (restarts so far, events) of every step that had any."""
    random, common = Random(recorded.seed * 1000 + rank), Random(recorded.seed)
    shared = [_draw(common, length) for length in SHARED_LENGTHS]
    source = _jobs(recorded, random, shared)
    total, done, life = recorded.requests, 0, 0
    resets = [int(total * part) for part in recorded.resets]
    restarts = [int(total * part) for part in recorded.restarts]
    engine = RecordedRank(recorded, empty_first)
    while True:
        if done < total and len(engine.waiting) < 3 and random.random() < 0.6:
            for _ in range(random.choice((1, 1, 2))):
                if done >= total:
                    break
                engine.waiting.append(next(source))
                done += 1
                if done in resets:
                    engine.reset()
                if done in restarts:
                    yield life, engine.step()
                    life += 1
                    left = (engine.waiting + engine.running)[:6]
                    engine = RecordedRank(recorded, empty_first)
                    engine.waiting = [_job(list(job.request.asked.prompt), job.todo or [5]) for job in left]
        yield life, engine.step()
        if done >= total and not engine.waiting and not engine.running:
            return


def _jobs(recorded: Recorded, random: Random, shared: list[list[int]]) -> Iterator[Job]:
    """Draw requests: exact repeats, further turns of recent talks, and new ones behind shared beginnings."""
    talks: list[tuple[list[int], Lora | None, str | None]] = []
    last: tuple[list[int], Lora | None, str | None] | None = None
    for _ in range(recorded.requests):
        kind = random.random()
        image: Image | None = None
        lora: Lora | None = None
        salt: str | None = None
        if kind < 0.15 and last is not None:
            tokens, lora, salt = last
        elif kind < 0.55 and talks:
            before, lora, salt = talks[min(int(random.paretovariate(1.2)) - 1, len(talks) - 1)]
            tokens = before + _draw(random, random.randint(4, 60))
        else:
            base = shared[min(int(random.paretovariate(0.8)) - 1, len(shared) - 1)]
            tokens = base + _draw(random, random.randint(16, 180))
            if random.random() < recorded.lora:
                number = random.randint(1, 3)
                lora = Lora(f"adapter-{number}", number)
            if random.random() < recorded.salt:
                salt = f"tenant-{random.randint(1, 3)}"
            if random.random() < recorded.image:
                image = Image(hashlib.sha256(b"img%d" % random.randint(0, 4)).hexdigest(), len(base), 24)
                tokens = base + [9] * 24 + _draw(random, random.randint(16, 180))
        tokens = tokens[-1800:]
        last = (tokens, lora, salt)
        answer = _draw(random, random.randint(1, 40))
        talks.insert(0, (tokens + answer, lora, salt))
        del talks[25:]
        full = random.random() < recorded.full_report
        session = f"sess-{random.randint(1, 9)}" if random.random() < recorded.session else None
        yield _job(
            tokens,
            answer,
            lora=lora,
            cache_salt=salt,
            images=(image,) if image else (),
            report_full=full,
            session=session,
        )


def _job(tokens: list[int], todo: list[int], **asked: object) -> Job:
    return Job(make_request(array("I", tokens), **asked), list(todo))  # type: ignore[arg-type]


def _draw(random: Random, count: int) -> list[int]:
    return [random.randrange(VOCABULARY) for _ in range(count)]
