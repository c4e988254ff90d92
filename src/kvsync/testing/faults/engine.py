"""
An engine whose word is the truth: the real cache of the simulated engine, small enough to turn over all the time.

It remembers every life: what was published under each number, and what the cache held just after it. Its few
prompts share beginnings, so that blocks are found again, copied, evicted and stored anew. An engine with a tier
keeps some of the evicted blocks on the CPU and says so by placeholders, as an offloading connector does.
"""

from __future__ import annotations

from array import array
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any, TypeAlias

import msgpack

from kvsync.engine.answers import Answer
from kvsync.engine.cache import PrefixCache
from kvsync.engine.events import BlockRemoved, CacheEvent, GroupSpec, Lora
from kvsync.engine.hashing import BlockHasher, Digest
from kvsync.engine.pool import BlockPool
from kvsync.engine.request import Asked, Request
from kvsync.engine.wire import Wire
from kvsync.testing.faults.history import EngineSetup
from kvsync.types import GPU, EngineHash

Held: TypeAlias = Mapping[str, Mapping[int, Mapping[EngineHash, int]]]
"""medium -> group -> hash -> copies; nothing that is empty."""

CPU = "CPU"
RUNNING_MAX = 2
FAMILIES = 3
BLOCKS_MAX = 4
NOTHING: Held = {}


@dataclass(frozen=True, slots=True)
class Batch:
    """What goes out under one number. `damaged`: nobody can learn from it what it was to tell."""

    life: int
    number: int
    payload: bytes
    oversize: bool = False
    damaged: bool = False


@dataclass(slots=True)
class Life:
    """What was held after each number, which are damaged, the last that cleared all, and whether one is over-size."""

    truths: list[Held] = field(default_factory=list)
    damaged: list[int] = field(default_factory=list)
    cleared: int | None = None
    oversize: bool = False

    @property
    def last(self) -> int | None:
        """The last number used; None before the first."""
        return len(self.truths) - 1 if self.truths else None

    def truth(self, number: int | None) -> Held:
        """What was held just after a number."""
        return NOTHING if number is None or number >= len(self.truths) else self.truths[number]

    def is_whole_since(self, number: int) -> bool:
        """Whether nothing from a number on is damaged."""
        return all(damaged < number for damaged in self.damaged)


class TrueEngine:
    """
    One engine, born at once.
    """

    def __init__(self, setup: EngineSetup, seed: int) -> None:
        self.setup = setup
        self.lives: list[Life] = []
        self.wedged_until = 0.0
        self.kept: deque[Batch] = deque(maxlen=setup.buffer_steps)
        self._wire = Wire.named(setup.wire, setup.hash_form)
        self._hasher = BlockHasher(seed)
        self._time_s = 0.0
        self.restart()

    @property
    def life(self) -> Life:
        """The present life."""
        return self.lives[-1]

    @property
    def number(self) -> int:
        """The number of the present life, from 0."""
        return len(self.lives) - 1

    @property
    def keeps_the_beginning(self) -> bool:
        """Whether number 0 of this life can still be asked for."""
        return not self.life.truths or (bool(self.kept) and self.kept[0].number == 0)

    def restart(self) -> None:
        """Die, and be born with an empty cache and buffer."""
        setup = self.setup
        groups = (GroupSpec(), *(() if setup.window is None else (GroupSpec(setup.window),)))
        self.lives.append(Life())
        self.kept.clear()
        self.cache = PrefixCache(
            BlockPool(setup.blocks * len(groups)), block_size=setup.block_size, hasher=self._hasher, groups=groups
        )
        self._running: list[Request] = []
        self._tier: OrderedDict[Digest, None] = OrderedDict()

    # ------------------------------------------------------------------ what it publishes

    def serve(self, random: Random, *, keep: bool = True) -> Batch | None:
        """
        Serve a request or two; None if that changed nothing.

        A batch that cannot be encoded is not kept: it has used up its number and is nowhere.
        """
        for _ in range(4):
            self._serve_one(random)
            if self.cache.pool.events:
                break
        batch = self._publish(random, keep=keep)
        if batch is not None and not keep:
            self.life.damaged.append(batch.number)
        return batch

    def clear(self, random: Random) -> Batch | None:
        """Empty the cache."""
        for request in self._running:
            self.cache.release(request)
        self._running.clear()
        self.cache.pool.reset()
        batch = self._publish(random)
        self.life.cleared = self.life.last
        return batch

    def damage(self, batch: Batch, payload: bytes, *, oversize: bool = False) -> Batch:
        """Publish something else in place of a batch: nobody learns what it was to tell."""
        assert self.kept[-1] is batch
        self.kept[-1] = Batch(batch.life, batch.number, payload, oversize, damaged=True)
        self.life.damaged.append(batch.number)
        self.life.oversize = self.life.oversize or oversize
        return self.kept[-1]

    def request(self, random: Random) -> Request:
        """One of the few requests there are."""
        size = self.setup.block_size
        family, blocks = random.randrange(FAMILIES), random.randint(1, BLOCKS_MAX)
        prompt = array("I", (place if place < size else 100 * family + place for place in range(blocks * size)))
        if random.random() < 0.7:
            prompt.append(7)
        lora, salt = None, None
        if self.setup.extras:
            lora = random.choice((None, None, None, Lora("adapter", 1)))
            salt = random.choice((None, None, None, None, "tenant"))
        asked = Asked(prompt, 1, lora=lora, cache_salt=salt, report_full=random.random() < 0.1)
        answer = Answer(prompt, seed=0, salt="", length_mean=1, end=None)
        return Request("r", asked, answer, lambda produced: None, 0.0)

    def _serve_one(self, random: Random) -> None:
        while self._running and (len(self._running) >= RUNNING_MAX or random.random() < 0.5):
            self.cache.release(self._running.pop(random.randrange(len(self._running))))
        if self._running and random.random() < 0.4:
            request = self._running[0]
            more = array("I", (random.randrange(2) for _ in range(self.setup.block_size)))
            request.tokens.extend(more)
            if self.cache.allocate(request, len(more)):
                request.computed = len(request.tokens)
            else:
                self.cache.release(request)
                self._running.remove(request)
        request = self.request(random)
        hit = self.cache.look_up(request)
        if self.cache.allocate(request, len(request.tokens) - hit.tokens, hit):
            request.computed = len(request.tokens)
            self._running.append(request)

    def _publish(self, random: Random, *, keep: bool = True) -> Batch | None:
        events = self.cache.pool.take_events()
        if not events:
            return None
        self._time_s += 1.0
        payload = self._wire.encode(self._time_s, events, 0)
        if self.setup.tier:
            payload = self._with_tier(payload, self._offload(events, random))
        batch = Batch(self.number, len(self.life.truths), payload)
        self.life.truths.append(self._held())
        if keep:
            self.kept.append(batch)
        return batch

    def _held(self) -> Held:
        write = self._wire.hash_form.write
        held: dict[str, dict[int, dict[EngineHash, int]]] = {}
        for group, digests in self.cache.pool.held().items():
            held.setdefault(GPU, {})[group] = {_unsigned(write(digest)): copies for digest, copies in digests.items()}
        if self._tier:
            held[CPU] = {0: {_unsigned(write(digest)): 1 for digest in self._tier}}
        return held

    # ------------------------------------------------------------------ the tier

    def _offload(self, events: list[CacheEvent], random: Random) -> list[dict[str, Any]]:
        """Keep some of what was evicted, for placeholders that come after the events of the step."""
        write, told = self._wire.hash_form.write, []
        for event in events:
            if not isinstance(event, BlockRemoved) or event.group or random.random() < 0.3:
                continue
            for digest in event.hashes:
                if digest in self._tier:
                    continue
                self._tier[digest] = None
                told.append({
                    "type": "BlockStored", "block_hashes": [write(digest)], "parent_block_hash": None, "token_ids": [],
                    "block_size": 0, "lora_id": None, "medium": CPU, "lora_name": None,
                })  # fmt: skip
                if len(self._tier) > self.setup.tier:
                    oldest = self._tier.popitem(last=False)[0]
                    told.append({"type": "BlockRemoved", "block_hashes": [write(oldest)], "medium": CPU})
        return told

    @staticmethod
    def _with_tier(payload: bytes, told: list[dict[str, Any]]) -> bytes:
        if not told:
            return payload
        batch = msgpack.unpackb(payload)
        batch[1] += told
        packed = msgpack.packb(batch)
        assert isinstance(packed, bytes)
        return packed


def garbled(payload: bytes, random: Random) -> bytes:
    """
    The batch with something that is no event in place of one.
    """
    batch = msgpack.unpackb(payload)
    place = random.randrange(len(batch[1]))
    batch[1][place] = random.choice((5, [], ["BlockStored"], {"type": "BlockRemoved", "block_hashes": "x"}))
    packed = msgpack.packb(batch)
    assert isinstance(packed, bytes)
    return packed


def _unsigned(written: int | bytes) -> EngineHash:
    return written if isinstance(written, bytes) else written % (1 << 64)
