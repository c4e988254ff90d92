"""
Sizes of a whole index.
"""

from __future__ import annotations

from typing import Any, TypedDict


class IndexStats(TypedDict):
    """
    `bytes` allocated now, at most (`bytes_peak`) and allowed (`bytes_max`, 0 = no ceiling); `entries` are those of
    (engine, kind, hash), `blocks` distinct block hashes, `holder_sets` distinct sets of engines; `evicted` entries were
    given up to keep below a ceiling.

    `bytes_per_entry` is all that is allocated, an empty index's share included, by entry: 0.0 where there is none.
    """

    bytes: int
    bytes_peak: int
    bytes_max: int
    bytes_per_entry: float
    engines: int
    models: int
    blocks: int
    entries: int
    holder_sets: int
    evicted: int


def read_stats(stats: Any) -> IndexStats:
    """Take over what the core filled in."""
    entries = int(stats.entries)
    return IndexStats(
        bytes=stats.bytes,
        bytes_peak=stats.bytes_peak,
        bytes_max=stats.bytes_max,
        bytes_per_entry=stats.bytes / entries if entries else 0.0,
        engines=stats.engines,
        models=stats.models,
        blocks=stats.blocks,
        entries=entries,
        holder_sets=stats.holder_sets,
        evicted=stats.evicted,
    )
