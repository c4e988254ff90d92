"""
Seeded prompts, and the event batches with which an engine would announce them.

Token ids are spread over a vocabulary of 151,643 and engine hashes over 64 bits, because both cost more to decode
when they are large.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgpack
import numpy as np

from benchmarks.sizes import BLOCK_SIZE
from kvsync.types import Engine, EngineHash

MODEL: Final = "bench"
VOCABULARY: Final = 151_643

Event = list[Any]


@dataclass(frozen=True, slots=True, eq=False)
class Prompt:
    """
    Tokens, and what one engine calls each of their blocks.
    """

    tokens: np.ndarray[Any, np.dtype[np.uint32]]
    hashes: Sequence[EngineHash]

    def stored(self, first: int, count: int) -> Event:
        """The event that stores `count` blocks from the `first` on."""
        tokens = self.tokens[first * BLOCK_SIZE : (first + count) * BLOCK_SIZE].tolist()
        parent = self.hashes[first - 1] if first else None
        return ["BlockStored", self.hashes[first : first + count], parent, tokens, BLOCK_SIZE, None, "GPU"]


def engine(number: int) -> Engine:
    """One of many engines."""
    return Engine(f"pod-{number}", 0)


def generator(*seeds: int) -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng((0x6B76, *seeds))


def tokens_of(random: np.random.Generator, blocks: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """Tokens for so many whole blocks."""
    return random.integers(0, VOCABULARY, blocks * BLOCK_SIZE, dtype=np.uint32)


def hashes_of(random: np.random.Generator, blocks: int, hash_bytes: int = 8) -> list[EngineHash]:
    """What an engine might call so many blocks: integers for 8 bytes, otherwise bytes."""
    if hash_bytes == 8:
        numbers: list[EngineHash] = random.integers(0, 2**64, blocks, dtype=np.uint64).tolist()
        return numbers
    text = random.bytes(blocks * hash_bytes)
    return [text[at : at + hash_bytes] for at in range(0, len(text), hash_bytes)]


def prompt(random: np.random.Generator, blocks: int, hash_bytes: int = 8) -> Prompt:
    """A prompt of its own."""
    return Prompt(tokens_of(random, blocks), hashes_of(random, blocks, hash_bytes))


def batch(events: Sequence[Event]) -> bytes:
    """The payload of one message."""
    return bytes(msgpack.packb([0.0, events, 0]))


def batches(events: Iterable[Event], a_batch: int) -> Iterator[bytes]:
    """Payloads of `a_batch` events each; the last may have fewer."""
    waiting: list[Event] = []
    for event in events:
        waiting.append(event)
        if len(waiting) == a_batch:
            yield batch(waiting)
            waiting = []
    if waiting:
        yield batch(waiting)


def store_events(prompts: Iterable[Prompt], an_event: int) -> Iterator[Event]:
    """Each prompt from its head to its tail, `an_event` blocks an event, one prompt after the other."""
    for one in prompts:
        blocks = len(one.hashes)
        for first in range(0, blocks, an_event):
            yield one.stored(first, min(an_event, blocks - first))


def interleaved_events(prompts: Sequence[Prompt]) -> Iterator[Event]:
    """One block an event and one event a prompt in turn, as engines do that decode many requests together."""
    for first in range(max(len(one.hashes) for one in prompts)):
        for one in prompts:
            if first < len(one.hashes):
                yield one.stored(first, 1)


def remove_events(prompts: Iterable[Prompt], an_event: int) -> Iterator[Event]:
    """Each prompt from its tail to its head, as engines evict, `an_event` hashes an event."""
    for one in prompts:
        backwards = list(reversed(one.hashes))
        for first in range(0, len(backwards), an_event):
            yield ["BlockRemoved", backwards[first : first + an_event], "GPU"]
