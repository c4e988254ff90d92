"""Makes caches cold: what was read or written before is pushed out by a copy larger than the last cache."""

from __future__ import annotations

from functools import cache

from benchmarks.sizes import SIZES


@cache
def _buffers() -> tuple[bytearray, bytearray]:
    half = SIZES.evict_bytes // 2
    return bytearray(b"x") * half, bytearray(half)


def evict() -> None:
    """Push everything else out of the processor's caches."""
    source, target = _buffers()
    memoryview(target)[:] = source
