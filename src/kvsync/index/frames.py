"""Frames as the core reads them, and what it says of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, overload

from kvsync._core import ffi
from kvsync.types import Applied

SEQUENCE_MAX = 2**63 - 1


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


class AppliedMany(Sequence[Applied]):
    """What the core wrote into an array of `kvs_applied`: values are made when they are looked at, which few do."""

    __slots__ = ("_applied", "_count")

    def __init__(self, applied: Any, count: int) -> None:
        self._applied = applied
        self._count = count

    def __repr__(self) -> str:
        return repr(list(self))

    def __len__(self) -> int:
        return self._count

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]

    @overload
    def __getitem__(self, at: int) -> Applied: ...

    @overload
    def __getitem__(self, at: slice) -> list[Applied]: ...

    def __getitem__(self, at: int | slice) -> Applied | list[Applied]:
        if isinstance(at, slice):
            return [self[nth] for nth in range(*at.indices(self._count))]
        one = self._applied[range(self._count)[at]]
        return Applied(one.stored, one.removed, one.cleared, one.skipped, one.reannounced)
