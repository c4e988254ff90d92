"""
What the benchmarks of one thread are timed with: the wall clock, unless `KVSYNC_BENCH_CLOCK` is cpu.

The process's CPU time has page faults and cache misses in it, and leaves out only what others took of the processor: on
a machine shared with other work it is the better guess, on one's own the two agree.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import Final

BY_NAME: Final[dict[str, Callable[[], float]]] = {"wall": time.perf_counter, "cpu": time.process_time}


def chosen() -> Callable[[], float]:
    """The clock asked for by the environment; raises ValueError for a name that is none."""
    name = os.environ.get("KVSYNC_BENCH_CLOCK", "wall")
    if name not in BY_NAME:
        raise ValueError(f"KVSYNC_BENCH_CLOCK is {name!r}: give one of {', '.join(BY_NAME)}")
    return BY_NAME[name]


class Timed:
    """What asv looks for in a class of benchmarks that time one thread."""

    timer = staticmethod(chosen())
