"""What is known of one engine, as plain values to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from kvsync.types import Engine, Trust


@dataclass(frozen=True, slots=True)
class MediumRecord:
    """
    What is known of one medium.

    `entries` counts (group, hash) pairs held, `doubtful` those that may be untrue; `reason` says what last lowered
    trust, "none" if nothing did; `since` is when trust became what it is, in seconds of the wall clock: of a record
    that was loaded from a file, when it was loaded.
    """

    trust: Trust
    reason: str
    entries: int
    doubtful: int
    since: float = field(default=0.0, compare=False)


@dataclass(frozen=True, slots=True)
class Lag:
    """
    How late batches were applied: the time each is stamped with, to when it was in the index; over all lives.

    `counts` has one number for each bound of `LAG_BOUNDS_S` not exceeded and one for all beyond; `ahead` of them were
    stamped in our future, by a clock that is fast, and count as no time. `last_s` is that of the latest batch.
    """

    counts: tuple[int, ...]
    seconds: float
    ahead: int
    last_s: float

    @property
    def count(self) -> int:
        """Batches that bore a time."""
        return sum(self.counts)


NO_LAG = Lag((), 0.0, 0, 0.0)


@dataclass(frozen=True, slots=True)
class Record:
    """
    What is known of one engine.

    `trust` is the worst over `media`; `sequence` the last number applied; `lives` 1 plus its restarts; `block_size` in
    tokens, as learned from its stores; `orphans` wait for their predecessor; `groups` counts the KV groups named in
    this life; `counters`
    counts events and hashes by what became of them, over all lives (docs/design/index.md). `lag` depends on two clocks.
    """

    engine: Engine
    model: str
    trust: Trust
    media: Mapping[str, MediumRecord]
    sequence: int | None
    lives: int
    block_size: int | None
    dialect: str | None
    orphans: int
    counters: Mapping[str, int]
    groups: int = 0
    lag: Lag = field(default=NO_LAG, compare=False)
