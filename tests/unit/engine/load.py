"""
A random but seeded life of a rank without sockets or clock: requests come and go, the cache turns over.

Shared by tests that compare what the rank says with what it holds.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from random import Random
from typing import Any

from kvsync.engine.answers import Answer
from kvsync.engine.events import CacheEvent, Lora
from kvsync.engine.options import EngineOptions
from kvsync.engine.process import make_scheduler
from kvsync.engine.request import Asked, Image, Produced, Request
from kvsync.engine.scheduler import Scheduler, Step
from kvsync.tokens.bytelevel import END_OF_TEXT, IMAGE_PLACEHOLDER

LORAS = (None, None, Lora("adapter-a", 1), Lora("adapter-b", 2))
SALTS = (None, None, None, "tenant-1", "tenant-2")
IMAGE_TOKENS = 7


def nothing(produced: Produced) -> None:
    """Take a token and forget it."""


def make_request(prompt: array[int], *, max_tokens: int = 16, seed: int = 0, name: str = "r", **asked: Any) -> Request:
    """Make a request that nobody waits for."""
    return Request(
        identifier=name,
        asked=Asked(prompt, max_tokens, **asked),
        answer=Answer(prompt, seed=seed, salt="", length_mean=24, end=END_OF_TEXT),
        sink=nothing,
        arrived_s=0.0,
    )


def run_step(scheduler: Scheduler, now_s: float = 0.0) -> tuple[Step, list[CacheEvent]] | None:
    """Let one step happen at once; None if there was nothing to do."""
    step = scheduler.schedule()
    if step is None:
        return None
    events = scheduler.finish(step)
    scheduler.deliver(step, now_s)
    return step, events


def random_options(random: Random, **fixed: Any) -> EngineOptions:
    """Draw an engine whose cache is small enough to turn over many times."""
    size = random.choice((1, 4, 16))
    chunked = random.random() < 0.8
    chosen: dict[str, Any] = {
        "blocks": random.randint(14, 60),
        "block_size": size,
        "step_tokens": size * random.randint(2, 20) if chunked else 64 * size,
        "chunked_prefill": chunked,
        "running_max": random.randint(1, 8),
        "windows": random.choice(((), (), (2 * size + 1,), (size + 2, 5 * size))),
    }
    return EngineOptions(**(chosen | fixed))


class RandomLife:
    """
    One rank under random load; `steps` lives it and gives what each step announced, for the caller to compare.
    """

    def __init__(self, life_seed: int, *, resets: bool = True, **fixed: Any) -> None:
        self.random = Random(life_seed)
        self.options = random_options(self.random, **fixed)
        self.scheduler = make_scheduler(self.options)
        self._resets = resets
        self._count = 0
        length = self.options.model_tokens_max
        self._asked: list[array[int]] = []
        self._prefixes = [self._tokens(self.random.randint(0, length // 2)) for _ in range(4)]

    def steps(self, count: int) -> Iterator[list[CacheEvent]]:
        """Live for so many steps, and give the events of each."""
        for _ in range(count):
            self._something_happens()
            done = run_step(self.scheduler)
            if done is not None:
                yield done[1]

    def _something_happens(self) -> None:
        scheduler, random = self.scheduler, self.random
        while len(scheduler.waiting) < 3 and random.random() < 0.5:
            scheduler.add(self._request())
        everybody = [*scheduler.running, *scheduler.waiting]
        if everybody and random.random() < 0.05:
            scheduler.abort(random.choice(everybody))
        if self._resets and random.random() < 0.02:
            scheduler.reset(preempt=random.random() < 0.5)

    def _request(self) -> Request:
        random, longest = self.random, self.options.model_tokens_max
        if self._asked and random.random() < 0.4:
            return self._request_of(random.choice(self._asked))
        prompt = (random.choice(self._prefixes) + self._tokens(random.randint(0, longest // 3)))[: longest - 2]
        if len(prompt) > self.options.block_size and random.random() < 0.5:
            # Whole blocks: the last one is computed again by whoever asks the same, and lies there twice.
            prompt = prompt[: len(prompt) // self.options.block_size * self.options.block_size]
        return self._request_of(prompt or self._tokens(1))

    def _request_of(self, prompt: array[int]) -> Request:
        random, longest = self.random, self.options.model_tokens_max
        self._asked = [*self._asked[-9:], prompt]
        prompt = prompt[:]
        images: tuple[Image, ...] = ()
        if len(prompt) > IMAGE_TOKENS and random.random() < 0.2:
            offset = random.randrange(len(prompt) - IMAGE_TOKENS)
            prompt[offset : offset + IMAGE_TOKENS] = array("I", [IMAGE_PLACEHOLDER] * IMAGE_TOKENS)
            images = (Image(random.choice(("cat", "dog")), offset, IMAGE_TOKENS),)
        self._count += 1
        return make_request(
            prompt,
            max_tokens=random.randint(1, longest - len(prompt)),
            seed=self.options.seed,
            name=f"r{self._count}",
            lora=random.choice(LORAS),
            cache_salt=random.choice(SALTS),
            images=images,
            report_full=random.random() < 0.2,
            session=random.choice((None, "talk")),
        )

    def _tokens(self, count: int) -> array[int]:
        return array("I", [self.random.randrange(40) for _ in range(count)])
