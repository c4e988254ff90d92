"""Frames in, blocks stored and removed: in one process, by how many blocks an event carries."""

from __future__ import annotations

from functools import cache
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
REMOVE_SHAPES: Final = {"32 hashes": (32, 32), "1 hash": (1, 64)}


@cache
def prompts() -> tuple[Prompt, ...]:
    """What is stored, by one engine."""
    random = generator(1)
    return tuple(prompt(random, PROMPT_BLOCKS) for _ in range(SIZES.ingest_blocks // PROMPT_BLOCKS))


@cache
def store_frames(shape: str) -> tuple[bytes, ...]:
    """The frames that store it."""
    an_event, a_batch = SHAPES[shape]
    in_turn = shape.endswith("in turn")
    events = interleaved_events(prompts()) if in_turn else store_events(prompts(), an_event)
    return tuple(batches(events, a_batch))


@cache
def remove_frames(shape: str) -> tuple[bytes, ...]:
    """The frames that remove it, the tail of each prompt first."""
    an_event, a_batch = REMOVE_SHAPES[shape]
    return tuple(batches(remove_events(prompts(), an_event), a_batch))


def apply_all(index: Index, frames: tuple[bytes, ...]) -> None:
    """All frames, one call each."""
    for frame in frames:
        index.apply(ENGINE, frame, model=MODEL)


class Store(Timed):
    """
    Seconds to store `ingest_blocks` blocks of one engine.

    growing: into an empty index. steady: into one that held as many before, so that its memory is there.
    """

    params = (list(SHAPES), ["growing", "steady"])
    param_names = ("event", "index")
    number = 1
    warmup_time = 0.0

    def setup(self, event: str, index: str) -> None:
        """An index ready to be written to."""
        self.frames = store_frames(event)
        self.index = Index(seed=1)
        if index == "steady":
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
