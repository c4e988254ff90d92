"""Frames as the core reads them, and what it says of each."""

from __future__ import annotations

from typing import Any

from kvsync._core import ffi
from kvsync.types import Applied

SEQUENCE_MAX = 2**63 - 1
COUNTS = 5
"""Numbers in a `kvs_applied`, in the order of `Applied`."""


def lend_frame(payload: Any, sequence: int | None) -> tuple[Any, int]:
    """
    A payload as a pointer that keeps its owner alive and knows its length, and its sequence number with -1 for none.

    Raises ValueError for a sequence out of range, TypeError for a payload that is no buffer.
    """
    if sequence is not None and not 0 <= sequence <= SEQUENCE_MAX:
        raise ValueError(f"sequence is {sequence}: give 0 .. 2**63-1, or None where there are no numbers")
    try:
        data = ffi.from_buffer("uint8_t[]", payload)
    except TypeError:
        raise TypeError(f"payload is {type(payload).__name__}: give bytes or another buffer") from None
    return data, -1 if sequence is None else sequence


def read_applied(applied: Any, count: int) -> list[Applied]:
    """What the core wrote into an array of `kvs_applied`."""
    numbers = ffi.unpack(ffi.cast("uint64_t *", applied), COUNTS * count)
    return [Applied(*numbers[at : at + COUNTS]) for at in range(0, COUNTS * count, COUNTS)]
