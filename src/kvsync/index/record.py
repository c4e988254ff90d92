"""What is known of one engine, as plain values to look at."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from kvsync.types import Engine, Trust


@dataclass(frozen=True, slots=True)
class MediumRecord:
    """
    What is known of one medium.

    `entries` counts (group, hash) pairs held, `doubtful` those that may be untrue; `reason` says what last lowered
    trust, "none" if nothing did.
    """

    trust: Trust
    reason: str
    entries: int
    doubtful: int


@dataclass(frozen=True, slots=True)
class Record:
    """
    What is known of one engine.

    `trust` is the worst over `media`; `sequence` the last number applied; `lives` 1 plus its restarts; `block_size` in
    tokens, as learned from its stores; `orphans` wait for their predecessor; `counters`
    counts events and hashes by what became of them, over all lives (docs/design/index.md).
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
