"""
How much work a benchmark is given: `KVSYNC_BENCH_SIZE` is full (asv's own runs), quick (minutes) or tiny (the tests).

Figures of different sizes must not be compared.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Final

BLOCK_SIZE: Final = 16
PROMPT_BLOCKS: Final = 512


@dataclass(frozen=True, slots=True)
class Sizes:
    """
    Counts of blocks, of engines, of (engine, block) entries; `evict_bytes` must be above the last cache's size.
    `asked_s` is how long one question is asked again and again.
    """

    ingest_blocks: int
    fill_entries: int
    fill_engines: int
    walk_blocks: int
    walk_engines: int
    score_keys: int
    score_pods: int
    memory_entries: int
    memory_engines: int
    clear_blocks: tuple[int, ...]
    zmq_blocks: int
    zmq_single_blocks: int
    instructions_blocks: int
    evict_bytes: int
    asked_s: float
    fleet_engines: int
    fleet_blocks: int
    reader_laps: int
    chat_chars: int


MIB: Final = 1024 * 1024

FULL: Final = Sizes(
    ingest_blocks=262_144,
    fill_entries=10_000_000,
    fill_engines=64,
    walk_blocks=8_192,
    walk_engines=64,
    score_keys=3_750,
    score_pods=96,
    memory_entries=10_000_000,
    memory_engines=64,
    clear_blocks=(6_000, 150_000),
    zmq_blocks=2_097_152,
    zmq_single_blocks=524_288,
    instructions_blocks=16_384,
    evict_bytes=128 * MIB,
    asked_s=1.0,
    fleet_engines=1_000,
    fleet_blocks=2_048,
    reader_laps=20_000,
    chat_chars=100_000,
)

QUICK: Final = Sizes(
    ingest_blocks=65_536,
    fill_entries=1_000_000,
    fill_engines=64,
    walk_blocks=8_192,
    walk_engines=64,
    score_keys=3_750,
    score_pods=96,
    memory_entries=2_000_000,
    memory_engines=64,
    clear_blocks=(6_000, 150_000),
    zmq_blocks=524_288,
    zmq_single_blocks=131_072,
    instructions_blocks=4_096,
    evict_bytes=64 * MIB,
    asked_s=1.0,
    fleet_engines=1_000,
    fleet_blocks=2_048,
    reader_laps=5_000,
    chat_chars=100_000,
)

TINY: Final = Sizes(
    ingest_blocks=1_024,
    fill_entries=2_048,
    fill_engines=2,
    walk_blocks=64,
    walk_engines=3,
    score_keys=48,
    score_pods=3,
    memory_entries=4_096,
    memory_engines=2,
    clear_blocks=(512, 1_024),
    zmq_blocks=2_048,
    zmq_single_blocks=1_024,
    instructions_blocks=512,
    evict_bytes=MIB,
    asked_s=0.02,
    fleet_engines=8,
    fleet_blocks=64,
    reader_laps=50,
    chat_chars=2_000,
)

BY_NAME: Final = {"full": FULL, "quick": QUICK, "tiny": TINY}


def chosen() -> Sizes:
    """The sizes asked for by the environment; raises ValueError for a name that is none."""
    name = os.environ.get("KVSYNC_BENCH_SIZE", "full")
    if name not in BY_NAME:
        raise ValueError(f"KVSYNC_BENCH_SIZE is {name!r}: give one of {', '.join(BY_NAME)}")
    return BY_NAME[name]


SIZES: Final = chosen()
