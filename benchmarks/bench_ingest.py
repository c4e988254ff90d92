"""Frames in, blocks stored and removed: in one process, by how many blocks an event carries."""

from __future__ import annotations

from functools import cache
from statistics import median
from typing import Final

from benchmarks.checks import expect_entries
from benchmarks.clock import Timed
from benchmarks.frames import (
    MODEL,
    Prompt,
    batches,
    engine,
    generator,
    interleaved_events,
    prompt,
    remove_events,
    store_events,
)
from benchmarks.sizes import PROMPT_BLOCKS, SIZES
from kvsync.index import Index

ENGINE: Final = engine(0)

# (blocks an event, events a batch); a batch of 1,024 blocks or fewer is what one engine step announces.
SHAPES: Final = {"32 blocks": (32, 32), "8 blocks": (8, 32), "1 block": (1, 64), "1 block, prompts in turn": (1, 64)}
TURNS: Final = 3
REMOVE_SHAPES: Final = {"32 hashes": (32, 32), "1 hash": (1, 64)}


@cache
def prompts(generation: int = 0) -> tuple[Prompt, ...]:
    """What is stored, by one engine; every generation is as large as the first and has nothing in common with it."""
    random = generator(1, generation)
    return tuple(prompt(random, PROMPT_BLOCKS) for _ in range(SIZES.ingest_blocks // PROMPT_BLOCKS))


@cache
def store_frames(shape: str, generation: int = 0) -> tuple[bytes, ...]:
    """The frames that store it."""
    an_event, a_batch = SHAPES[shape]
    stored = prompts(generation)
    in_turn = shape.endswith("in turn")
    events = interleaved_events(stored) if in_turn else store_events(stored, an_event)
    return tuple(batches(events, a_batch))


@cache
def remove_frames(shape: str, generation: int = 0) -> tuple[bytes, ...]:
    """The frames that remove it, the tail of each prompt first."""
    an_event, a_batch = REMOVE_SHAPES[shape]
    return tuple(batches(remove_events(prompts(generation), an_event), a_batch))


def apply_all(index: Index, frames: tuple[bytes, ...]) -> None:
    """All frames, one call each."""
    for frame in frames:
        index.apply(ENGINE, frame, model=MODEL)


class Store(Timed):
    """
    Seconds to store `ingest_blocks` blocks of one engine.

    growing: into a new index. emptied: into one that held as many before and may have given its memory back.
    """

    params = (list(SHAPES), ["growing", "emptied"])
    param_names = ("event", "index")
    number = 1
    warmup_time = 0.0

    def setup(self, event: str, index: str) -> None:
        """An index ready to be written to."""
        self.frames = store_frames(event)
        self.index = Index(seed=1)
        if index == "emptied":
            # The first round grows, the second meets what the first left behind.
            apply_all(self.index, self.frames)
            apply_all(self.index, remove_frames("32 hashes"))
            expect_entries(self.index, 0)

    def teardown(self, event: str, index: str) -> None:
        """Everything arrived."""
        expect_entries(self.index, SIZES.ingest_blocks)
        self.index.close()

    def time_store(self, event: str, index: str) -> None:
        """Apply all frames."""
        apply_all(self.index, self.frames)


class Turnover(Timed):
    """
    Blocks a second stored by an engine whose cache is full, so that as many go as come; only the stores are clocked.

    The index stays at `ingest_blocks` blocks and up to a batch; old prompts go from the first to the last, each from
    its tail.
    """

    params = (list(SHAPES),)
    param_names = ("event",)
    unit = "blocks/s"

    def track_store(self, event: str) -> float:
        """The median of three turns, the turn before them not counted."""
        an_event, a_batch = SHAPES[event]
        removed_at_once = 32 * 32
        rates = []
        with Index(seed=1) as index:
            apply_all(index, store_frames(event, 0))
            for turn in range(1 + TURNS):
                removals = iter(remove_frames("32 hashes", turn % 2))
                seconds, due = 0.0, 0
                for frame in store_frames(event, (turn + 1) % 2):
                    began = self.timer()
                    index.apply(ENGINE, frame, model=MODEL)
                    seconds += self.timer() - began
                    due += an_event * a_batch
                    if due >= removed_at_once:
                        due -= removed_at_once
                        index.apply(ENGINE, next(removals), model=MODEL)
                expect_entries(index, SIZES.ingest_blocks)
                rates.append(SIZES.ingest_blocks / seconds)
        return median(rates[1:])


class Remove(Timed):
    """
    Seconds to remove `ingest_blocks` blocks of one engine, the tail of each prompt first.
    """

    params = (list(REMOVE_SHAPES),)
    param_names = ("event",)
    number = 1
    warmup_time = 0.0

    def setup(self, event: str) -> None:
        """An index that holds it all."""
        self.frames = remove_frames(event)
        self.index = Index(seed=1)
        apply_all(self.index, store_frames("32 blocks"))
        expect_entries(self.index, SIZES.ingest_blocks)

    def teardown(self, event: str) -> None:
        """Nothing is left."""
        expect_entries(self.index, 0)
        self.index.close()

    def time_remove(self, event: str) -> None:
        """Apply all frames."""
        apply_all(self.index, self.frames)


class Fill(Timed):
    """
    Blocks a second while `fill_entries` entries of 64 engines arrive, prompts and engines in random order.

    Tracked, not timed: the frames are made a piece at a time, between the clock's laps, because all of them together
    would be larger than the index.
    """

    timeout = 1800.0
    unit = "blocks/s"

    def track_random_order(self) -> float:
        """Frames of 512 blocks, 32 an event."""
        random = generator(2)
        count = SIZES.fill_entries // PROMPT_BLOCKS
        order = random.integers(0, SIZES.fill_engines, count).tolist()
        seconds = 0.0
        with Index(seed=1) as index:
            for first in range(0, count, 64):
                made = [
                    (engine(number), next(batches(store_events([prompt(random, PROMPT_BLOCKS)], 32), 16)))
                    for number in order[first : first + 64]
                ]
                began = self.timer()
                for holder, frame in made:
                    index.apply(holder, frame, model=MODEL)
                seconds += self.timer() - began
            expect_entries(index, count * PROMPT_BLOCKS)
        return count * PROMPT_BLOCKS / seconds
