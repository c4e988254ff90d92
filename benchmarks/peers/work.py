"""
The work that all sides are given: prompts, what engines call their blocks, and how often a thing is timed.

Everything is made from seeds, so that each side, in a process of its own, has the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Final

from benchmarks.frames import Prompt, generator, hashes_of, prompt, tokens_of
from benchmarks.memory_probe import prompt_of
from benchmarks.sizes import PROMPT_BLOCKS, SIZES

STORE_SHAPES: Final = {"32 blocks an event": (32, 32), "8 blocks an event": (8, 32), "1 block an event": (1, 64)}
"""(blocks an event, events a frame); whoever takes events one by one has no use for the second."""

REMOVE_SHAPES: Final = {"32 hashes an event": (32, 32), "1 hash an event": (1, 64)}

WALKERS: Final = SIZES.walk_engines
CLEARED_BLOCKS: Final = SIZES.clear_blocks[0] // PROMPT_BLOCKS * PROMPT_BLOCKS
MEMORY_ENTRIES: Final = SIZES.memory_entries // 5
MEMORY_ENGINES: Final = SIZES.memory_engines


@cache
def prompts(blocks: int = SIZES.ingest_blocks) -> tuple[Prompt, ...]:
    """What one engine stores."""
    random = generator(21)
    return tuple(prompt(random, PROMPT_BLOCKS) for _ in range(blocks // PROMPT_BLOCKS))


def shared(holder: int, *, agreed: bool) -> Prompt:
    """
    One long prompt, as each of `WALKERS` engines holds it: under hashes of its own, or that all have agreed upon.
    """
    blocks = SIZES.walk_blocks
    return Prompt(tokens_of(generator(22), blocks), hashes_of(generator(23, 0 if agreed else holder), blocks))


def fleet(*, agreed: bool, entries: int = MEMORY_ENTRIES) -> Iterator[tuple[int, Prompt]]:
    """(engine, prompt) of a whole fleet, engines in turn; half of each prompt is held by all."""
    half = PROMPT_BLOCKS // 2
    for number in range(max(1, entries // MEMORY_ENGINES // PROMPT_BLOCKS)):
        common = prompt_of(0, number, 8).hashes[:half]
        for holder in range(MEMORY_ENGINES):
            one = prompt_of(holder, number, 8)
            yield holder, Prompt(one.tokens, [*common, *one.hashes[half:]]) if agreed else one
