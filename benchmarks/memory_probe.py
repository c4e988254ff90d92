"""
Fill an index in a process of its own, take most of it away again, and print as JSON what the process weighs.

    python -m benchmarks.memory_probe ENTRIES ENGINES HASH_BYTES tail|random|twice|media

Half of each engine's blocks are held by all the others too, under hashes of its own. `tail` and `random` say which nine
entries of ten go; with `twice` each engine stores everything a second time, with `media` on CPU as well, and nothing
goes. Bytes are what /proc/self/statm says above a process that has done everything once on a small scale; frames are
made one at a time and not kept.
"""

from __future__ import annotations

import gc
import json
import mmap
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np

from benchmarks.checks import expect, expect_entries
from benchmarks.frames import MODEL, Event, Prompt, batches, engine, generator, hashes_of, store_events, tokens_of
from benchmarks.sizes import PROMPT_BLOCKS
from kvsync.index import Index

KEPT_OF: Final = 10
"""One entry of so many stays."""

ORDERS: Final = ("tail", "random")
MEDIUM_AT: Final = 6
"""The medium's place in a stored event's array."""


def rss() -> int:
    """Bytes of this process that lie in memory now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def prompt_of(holder: int, number: int, hash_bytes: int) -> Prompt:
    """An engine's prompt: the first half of its tokens is the same with every engine, the rest its own."""
    half = PROMPT_BLOCKS // 2
    tokens = np.concatenate(
        [tokens_of(generator(7, number), half), tokens_of(generator(8, number, holder), PROMPT_BLOCKS - half)]
    )
    return Prompt(tokens, hashes_of(generator(9, number, holder), PROMPT_BLOCKS, hash_bytes))


def removals(prompts: int, holder: int, hash_bytes: int, order: str) -> Iterator[Event]:
    """Nine entries of ten: each prompt's tail, or any of the engine's blocks."""
    if order == "tail":
        keep = PROMPT_BLOCKS // KEPT_OF
        for number in range(prompts):
            backwards = list(reversed(hashes_of(generator(9, number, holder), PROMPT_BLOCKS, hash_bytes)[keep:]))
            for first in range(0, len(backwards), 32):
                yield ["BlockRemoved", backwards[first : first + 32], "GPU"]
        return
    hashes = [
        one for number in range(prompts) for one in hashes_of(generator(9, number, holder), PROMPT_BLOCKS, hash_bytes)
    ]
    shuffled = generator(10, holder).permutation(len(hashes)).tolist()
    for first in range(0, removed_of(prompts, order), 32):
        yield [
            "BlockRemoved",
            [hashes[at] for at in shuffled[first : min(first + 32, removed_of(prompts, order))]],
            "GPU",
        ]


def removed_of(prompts: int, order: str) -> int:
    """How many entries of one engine go."""
    if order == "tail":
        return prompts * (PROMPT_BLOCKS - PROMPT_BLOCKS // KEPT_OF)
    return prompts * PROMPT_BLOCKS * (KEPT_OF - 1) // KEPT_OF


def stores(one: Prompt, shape: str) -> Iterator[Event]:
    """A prompt stored; and once more as copies of the same blocks, or on another medium, if that is the shape."""
    yield from store_events([one], 32)
    if shape == "twice":
        # A prompt told again from its beginning would be an announcement and no copy: so its first block is alone.
        yield one.stored(0, 1)
        for first in range(1, PROMPT_BLOCKS, 32):
            yield one.stored(first, min(32, PROMPT_BLOCKS - first))
    if shape == "media":
        for event in store_events([one], 32):
            yield [*event[:MEDIUM_AT], "CPU", *event[MEDIUM_AT + 1 :]]


def fill(index: Index, engines: int, prompts: int, hash_bytes: int, shape: str) -> None:
    """Every engine stores its prompts; engines take turns, as in a fleet. Frames are numbered: records are exact."""
    numbers = [0] * engines
    for number in range(prompts):
        for holder in range(engines):
            for frame in batches(stores(prompt_of(holder, number, hash_bytes), shape), 32):
                index.apply(engine(holder), frame, model=MODEL, sequence=numbers[holder])
                numbers[holder] += 1


def drain(index: Index, engines: int, prompts: int, hash_bytes: int, order: str) -> None:
    """Every engine loses nine entries of ten."""
    for holder in range(engines):
        for frame in batches(removals(prompts, holder, hash_bytes, order), 32):
            index.apply(engine(holder), frame, model=MODEL)


def expect_copies(index: Index, copies: int) -> None:
    """Look at one engine: what it holds, it holds so many times."""
    held = index.engine_hashes(engine(0))
    expect("copies", {count for media in held.values() for one in media.values() for count in one.values()}, {copies})


def measure(entries: int, engines: int, hash_bytes: int, order: str) -> dict[str, float]:
    """Bytes an entry when full, by RSS and by stats; what part of both is left at a tenth, if any go."""
    prompts = max(1, entries // engines // PROMPT_BLOCKS)
    with Index(seed=1) as small:
        fill(small, 1, 1, hash_bytes, order)
        if order in ORDERS:
            drain(small, 1, 1, hash_bytes, order)
    gc.collect()
    before = rss()
    with Index(seed=1) as index:
        fill(index, engines, prompts, hash_bytes, order)
        full = engines * prompts * PROMPT_BLOCKS * (2 if order == "media" else 1)
        expect_entries(index, full)
        expect_copies(index, 2 if order == "twice" else 1)
        gc.collect()
        rss_full, stats_full = rss() - before, index.stats()["bytes"]
        stats_peak = index.stats()["bytes_peak"]
        weighed = {
            "entries": full,
            "rss_entry": rss_full / full,
            "stats_entry": stats_full / full,
            "stats_peak_entry": stats_peak / full,
        }
        if order not in ORDERS:
            return weighed
        drain(index, engines, prompts, hash_bytes, order)
        expect_entries(index, full - engines * removed_of(prompts, order))
        gc.collect()
        rss_left, stats_left = rss() - before, index.stats()["bytes"]
    return {
        **weighed,
        "rss_left": 100 * rss_left / max(rss_full, 1),
        "stats_left": 100 * stats_left / stats_full,
    }


if __name__ == "__main__":
    print(json.dumps(measure(int(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])))
