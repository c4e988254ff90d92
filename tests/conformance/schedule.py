"""
A seeded life of one rank: clients that talk in turns over shared beginnings, and a scheduler that runs out of blocks.

Who computes how much in which step is decided here, once, and told to both engines; nothing of it is vLLM's. A small
pool makes requests evict each other's blocks, wait, and start over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from random import Random

from tests.conformance.engines import Asked, Both

VOCABULARY = 150_000
STEP_TOKENS = 600
CHUNK_TOKENS = 256
RUNNING_MAX = 12


@dataclass(frozen=True, slots=True)
class Mix:
    """What requests are like: the share of them that has each thing, and how many there are."""

    requests: int = 80
    repeats: float = 0.2
    turns: float = 0.45
    lora: float = 0.0
    salt: float = 0.0
    images: float = 0.0
    report_full: float = 0.0
    sessions: float = 0.0
    resets: int = 0


@dataclass(slots=True)
class Clients:
    """Draws the requests of one rank; beginnings are shared by all ranks of a seed."""

    mix: Mix
    random: Random
    beginnings: list[tuple[int, ...]]
    tokens_max: int
    talks: deque[Asked] = field(default_factory=lambda: deque(maxlen=16))

    def draw(self) -> Iterator[Asked]:
        """Every request, in order."""
        for number in range(self.mix.requests):
            asked = replace(self._draw(), name=f"r{number}", report_full=self._has(self.mix.report_full))
            self.talks.append(asked)
            yield asked

    def _draw(self) -> Asked:
        if self.talks and self._has(self.mix.repeats):
            return self.talks[-1]
        if self.talks and self._has(self.mix.turns):
            before = self.random.choice(self.talks)
            tokens = before.tokens + before.answer + self._tokens(5, 70)
            return replace(before, tokens=tokens[: self.tokens_max], answer=self._tokens(1, 40))
        begin = self.random.choice(self.beginnings)
        images: tuple[tuple[str, int, int], ...] = ()
        if self._has(self.mix.images):
            images = ((f"image-{self.random.randint(0, 3)}", len(begin), 30),)
            begin += (7,) * 30
        return Asked(
            name="",
            tokens=(begin + self._tokens(10, 200))[: self.tokens_max],
            answer=self._tokens(1, 40),
            lora=self.random.choice((("chat", 1), ("code", 2))) if self._has(self.mix.lora) else None,
            salt=self.random.choice(("tenant-a", "tenant-b")) if self._has(self.mix.salt) else None,
            images=images,
            session=f"session-{self.random.randint(0, 5)}" if self._has(self.mix.sessions) else None,
        )

    def _has(self, share: float) -> bool:
        return self.random.random() < share

    def _tokens(self, least: int, most: int) -> tuple[int, ...]:
        return tuple(self.random.randrange(VOCABULARY) for _ in range(self.random.randint(least, most)))


@dataclass(slots=True)
class Scheduler:
    """Steps of one rank: running requests first, then those that wait, as far as tokens and blocks go."""

    engine: Both
    waiting: deque[Asked] = field(default_factory=deque)
    running: list[Asked] = field(default_factory=list)
    preemptions: int = 0
    _answered: dict[str, int] = field(default_factory=dict)

    def add(self, asked: Asked) -> None:
        """A request arrives."""
        self.engine.ask(asked)
        self._answered[asked.name] = 0
        self.waiting.append(asked)

    def step(self) -> None:
        """One step, with its events."""
        left = self._admit(self._go_on(STEP_TOKENS))
        assert left >= 0
        for asked in list(self.running):
            if not self.engine.uncomputed(asked.name):
                self._answer(asked)
        self.engine.publish()

    def reset(self) -> None:
        """Empty the cache, whatever runs."""
        while self.running:
            self._preempt(self.running[-1])
        self.engine.reset()

    @property
    def is_idle(self) -> bool:
        """Whether every request has ended."""
        return not self.waiting and not self.running

    def _go_on(self, left: int) -> int:
        for asked in list(self.running):
            while asked in self.running:
                count = min(self.engine.uncomputed(asked.name), CHUNK_TOKENS, left)
                if not count or self.engine.go_on(asked.name, count):
                    left -= count
                    break
                self._preempt(self.running[-1])
        return left

    def _admit(self, left: int) -> int:
        while self.waiting and left and len(self.running) < RUNNING_MAX:
            count = self.engine.begin(self.waiting[0].name, min(left, CHUNK_TOKENS))
            if not count:
                break
            self.running.append(self.waiting.popleft())
            left -= count
        return left

    def _answer(self, asked: Asked) -> None:
        place = self._answered[asked.name]
        if place == len(asked.answer):
            self.engine.release(asked.name, again=False)
            self.running.remove(asked)
            return
        self.engine.append(asked.name, asked.answer[place])
        self._answered[asked.name] = place + 1

    def _preempt(self, asked: Asked) -> None:
        self.engine.release(asked.name, again=True)
        self.running.remove(asked)
        self.waiting.appendleft(asked)
        self.preemptions += 1


def live(scheduler: Scheduler, mix: Mix, seed: int) -> Iterator[int]:
    """One life to its end; yields the number of each step, when what has been published is all that happened."""
    common, random = Random(seed), Random(seed * 100 + scheduler.engine.rank)
    beginnings = [tuple(common.randrange(VOCABULARY) for _ in range(length)) for length in (48, 130, 310, 500)]
    shape = scheduler.engine.shape
    # Two such requests fit beside each other; one that does not fit alone would start over for ever.
    tokens_max = shape.blocks * shape.block_size // (2 * (1 + len(shape.windows))) - 64
    requests = Clients(mix, random, beginnings, tokens_max).draw()
    left, steps = mix.requests, 0
    resets = {mix.requests * (n + 1) // (mix.resets + 1) for n in range(mix.resets)}
    while left or not scheduler.is_idle:
        if left and len(scheduler.waiting) < 4 and random.random() < 0.5:
            scheduler.add(next(requests))
            left -= 1
            if left in resets:
                scheduler.reset()
        scheduler.step()
        steps += 1
        yield steps
