"""
One side in a process of its own: every row that needs no socket, printed as JSON.

    python -m benchmarks.peers.inside ours|lists|dynamo|plain

The clock of a store stops when a query sees the last block. A row that takes microseconds is the median of many.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from statistics import median
from typing import Any, Final

from benchmarks.checks import expect
from benchmarks.frames import Prompt, generator, prompt, tokens_of
from benchmarks.memory_probe import rss
from benchmarks.peers import work
from benchmarks.peers.dynamo import Dynamo
from benchmarks.peers.ours import Ours, OursFromLists
from benchmarks.peers.plain import Plain
from benchmarks.peers.side import Side
from benchmarks.sizes import PROMPT_BLOCKS, SIZES

SIDES: Final[Mapping[str, Callable[[], Side]]] = {
    "ours": Ours,
    "lists": OursFromLists,
    "dynamo": Dynamo,
    "plain": Plain,
}

ASKED_MAX: Final = 2_000


@dataclass(frozen=True, slots=True)
class Figure:
    """
    What one row came to, in the row's unit; `cpu_us` is CPU time a block where blocks are counted.
    """

    row: str
    value: float
    cpu_us: float | None = None


def clocked(row: str, blocks: int, work: Callable[[], object]) -> Figure:
    """Millions of blocks a second of something done once."""
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    seconds = time.perf_counter() - wall
    return Figure(row, blocks / seconds / 1e6, 1e6 * (time.process_time() - cpu) / blocks)


def asked(row: str, ask: Callable[[], object]) -> Figure:
    """Microseconds of a question, the median of up to two thousand."""
    laps: list[float] = []
    until = time.perf_counter() + SIZES.asked_s
    while len(laps) < 5 or (len(laps) < ASKED_MAX and time.perf_counter() < until):
        began = time.perf_counter()
        ask()
        laps.append(1e6 * (time.perf_counter() - began))
    return Figure(row, median(laps))


def holds(side: Side, engine: int, one: Prompt, blocks: int) -> None:
    """The engine holds so many of the prompt's leading blocks."""
    expect("blocks matched", side.read(side.match(side.tokens(one.tokens))).get(engine, 0), blocks)


def stores(side: Side) -> Iterator[Figure]:
    """One engine's prompts into an empty index."""
    prompts = work.prompts()
    last = side.tokens(prompts[-1].tokens)
    for shape, (an_event, a_batch) in work.STORE_SHAPES.items():
        events = side.stores(prompts, an_event, a_batch)
        side.open()

        def store(events: list[bytes] = events) -> None:
            side.apply(0, events)
            expect("blocks of the last prompt", side.read(side.match(last)), {0: PROMPT_BLOCKS})

        yield clocked(f"store, {shape}", SIZES.ingest_blocks, store)
        holds(side, 0, prompts[0], PROMPT_BLOCKS)


def removals(side: Side) -> Iterator[Figure]:
    """The same again, each prompt from its tail."""
    prompts = work.prompts()
    last = side.tokens(prompts[-1].tokens)
    for shape, (an_event, a_batch) in work.REMOVE_SHAPES.items():
        side.open()
        side.apply(0, side.stores(prompts, 32, 32))
        holds(side, 0, prompts[-1], PROMPT_BLOCKS)
        events = side.removals(prompts, an_event, a_batch)

        def remove(events: list[bytes] = events) -> None:
            side.apply(0, events)
            expect("blocks of the last prompt", side.read(side.match(last)), {})

        yield clocked(f"remove, {shape}", SIZES.ingest_blocks, remove)
        holds(side, 0, prompts[0], 0)


def questions(side: Side) -> Iterator[Figure]:
    """A long prompt that many engines hold, and one that nobody does."""
    side.open()
    for holder in range(work.WALKERS):
        side.apply(holder, side.stores([work.shared(holder, agreed=side.agreed)], 32, 32))
    tokens = side.tokens(work.shared(0, agreed=side.agreed).tokens)
    hashes = side.hashes(tokens)
    everybody = dict.fromkeys(range(work.WALKERS), SIZES.walk_blocks)
    expect("engines that match", side.read(side.walk(hashes)), everybody)
    expect("engines that match", side.read(side.match(tokens)), everybody)
    yield asked("walk, hashes given", lambda: side.walk(hashes))
    yield asked("tokens to hashes", lambda: side.hashes(tokens))
    yield asked("query from tokens", lambda: side.match(tokens))
    strange = side.tokens(tokens_of(generator(24), 1))
    strange_hashes = side.hashes(strange)
    expect("engines that match", side.read(side.match(strange)), {})
    yield asked("a miss, a block of tokens", lambda: side.match(strange))
    yield asked("a miss, a hash", lambda: side.walk(strange_hashes))


def clearing(side: Side) -> Iterator[Figure]:
    """An engine's cache is gone; another goes on holding the same blocks."""
    random = generator(25)
    prompts = [prompt(random, PROMPT_BLOCKS) for _ in range(work.CLEARED_BLOCKS // PROMPT_BLOCKS)]
    laps = []
    for _ in range(5):
        side.open()
        for holder in (0, 1):
            side.apply(holder, side.stores(prompts, 32, 32))
        began = time.perf_counter()
        side.forget(0)
        laps.append(1e3 * (time.perf_counter() - began))
        expect("blocks left", side.read(side.match(side.tokens(prompts[-1].tokens))), {1: PROMPT_BLOCKS})
    yield Figure("clear an engine", median(laps))


def memory(side: Side) -> Iterator[Figure]:
    """Bytes an entry by RSS; events are made one prompt at a time and not kept."""
    side.open()
    side.apply(0, side.stores([work.shared(0, agreed=side.agreed)], 32, 32))
    side.open()
    gc.collect()
    before, entries, last = rss(), 0, None
    for holder, group in groupby(work.fleet(agreed=side.agreed), key=lambda pair: pair[0]):
        for _, last in group:
            side.apply(holder, side.stores([last], 32, 32))
            entries += PROMPT_BLOCKS
    assert last is not None
    holds(side, work.MEMORY_ENGINES - 1, last, PROMPT_BLOCKS)
    gc.collect()
    yield Figure("memory by RSS", (rss() - before) / entries)


def measure(side: Side) -> Iterator[Figure]:
    """Everything; memory first, while the process is young."""
    for part in (memory, stores, removals, questions, clearing):
        yield from part(side)
    side.close()


def main(name: str) -> None:
    """Measure one side and print its figures."""
    side: Any = SIDES[name]()
    figures = [(figure.row, figure.value, figure.cpu_us) for figure in measure(side)]
    print(json.dumps({"reads": side.reads, "figures": figures}))


if __name__ == "__main__":
    main(sys.argv[1])
