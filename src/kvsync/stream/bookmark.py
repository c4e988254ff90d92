"""
The last batch applied: what tells one life of an engine from another, in this process and in the next.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TypeAlias

from kvsync.stream.instructions import Payload
from kvsync.types import Bookmark

__all__ = ["Bookmark", "Last", "bookmark_of", "digest", "is_same", "number_of"]

DIGEST_BYTES = 8

Last: TypeAlias = Bookmark | tuple[int, Payload]
"""The last batch applied: as an earlier process noted it, or as it came."""


def digest(payload: Payload) -> bytes:
    """
    Tell one batch from another, in this process and in the next.

    Batches heard live in order are never digested, so this is not on the path that must be fast: 64 bits that
    mean what they say are worth more here than the few microseconds a CRC would save.
    """
    return blake2b(payload, digest_size=DIGEST_BYTES).digest()


def number_of(last: Last) -> int:
    """
    The number of a batch applied.
    """
    return last.number if isinstance(last, Bookmark) else last[0]


def is_same(last: Last, payload: Payload) -> bool:
    """
    Whether a payload under the same number is that batch.
    """
    return last.digest == digest(payload) if isinstance(last, Bookmark) else last[1] == payload


def bookmark_of(last: Last | None) -> Bookmark | None:
    """
    What a later process needs of it.
    """
    return last if last is None or isinstance(last, Bookmark) else Bookmark(last[0], digest(last[1]))
