"""
A large fleet: how long the slowest of a hundred questions takes when many engines hold much.

Tracked, not timed: the index is as large as a gigabyte of frames, so it is filled once, and asv takes the best of its
samples where the question is about the worst.
"""

from __future__ import annotations

import time
from array import array

from benchmarks.checks import expect, expect_entries
from benchmarks.frames import MODEL, Prompt, batches, engine, generator, hashes_of, prompt, store_events, tokens_of
from benchmarks.sizes import PROMPT_BLOCKS, SIZES
from kvsync.index import Index

LAPS = 2_000

Laps = dict[str, float]


def store(index: Index, holder: int, one: Prompt) -> None:
    """An engine stores a prompt."""
    for frame in batches(store_events([one], 32), 32):
        index.apply(engine(holder), frame, model=MODEL)


def fill(index: Index) -> array[int]:
    """Every engine holds prompts of its own; the first `walk_engines` hold one more that is asked for: its tokens."""
    for number in range(SIZES.fleet_engines):
        index.register(engine(number), model=MODEL)
    shared = tokens_of(generator(27), SIZES.fleet_blocks)
    for number in range(SIZES.walk_engines):
        store(index, number, Prompt(shared, hashes_of(generator(28, number), SIZES.fleet_blocks)))
    random = generator(29)
    left = SIZES.fill_entries - SIZES.walk_engines * SIZES.fleet_blocks
    for number in range(left // PROMPT_BLOCKS):
        store(index, number % SIZES.fleet_engines, prompt(random, PROMPT_BLOCKS))
    expect_entries(index, SIZES.walk_engines * SIZES.fleet_blocks + left // PROMPT_BLOCKS * PROMPT_BLOCKS)
    return array("I", shared.tobytes())


def percentile(laps: list[float], share: float) -> float:
    """So many of a hundred took no longer."""
    return sorted(laps)[min(len(laps) - 1, int(len(laps) * share / 100))]


class Fleet:
    """
    Microseconds of `match` over `fleet_blocks` blocks held by `walk_engines` of `fleet_engines` engines, hot.
    """

    unit = "us"
    timeout = 1800.0

    def setup_cache(self) -> Laps:
        """One index, two thousand questions."""
        with Index(seed=1) as index:
            tokens = fill(index)
            answer = index.match(tokens, model=MODEL)
            expect("engines that match", len(answer), SIZES.walk_engines)
            expect("blocks matched", {match.blocks for match in answer.values()}, {SIZES.fleet_blocks})
            laps = []
            for _ in range(LAPS):
                began = time.perf_counter()
                index.match(tokens, model=MODEL)
                laps.append(1e6 * (time.perf_counter() - began))
        return {"p50": percentile(laps, 50), "p99": percentile(laps, 99)}

    setup_cache.timeout = 1800.0  # type: ignore[attr-defined]

    def track_p50(self, laps: Laps) -> float:
        """The median."""
        return laps["p50"]

    def track_p99(self, laps: Laps) -> float:
        """The slowest but one of a hundred."""
        return laps["p99"]
