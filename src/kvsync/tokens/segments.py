"""
The prefix-token cache: text that was tokenized before is not tokenized again.

A text is cut from its beginning into segments of about `SPAN` characters, each ending at the first place behind that
where a cut is proved to change nothing (`cuts`). Its ids are those of its segments, one after the other, so a segment's
ids can be kept under its text and used wherever it comes again. Two texts that begin alike are cut alike as far as they
agree: of the next turn of a conversation only the last segment and what is new are tokenized.

Nothing here is a guess: keys are the texts themselves, compared character by character, and where no cut is proved a
text is one segment, which is not kept.
"""

from __future__ import annotations

import sys
import threading
from array import array
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from kvsync.tokens.cuts import Cuts

SPAN = 768
"""Shorter ones cost more look-ups, longer ones a longer tail that is tokenized each time."""

BYTES_MAX = 64 * 1024 * 1024
ENTRY_BYTES = 260
"""What an entry takes beside its text and ids: two objects' heads, and its place in the mapping."""


@dataclass(slots=True)
class _Counts:
    hits: int = 0
    misses: int = 0
    evictions: int = 0
    chars_reused: int = 0
    chars_tokenized: int = 0


class SegmentCache:
    """
    Ids by text; any thread may call it. `encode` is the tokenizer, which is called without a lock held.
    """

    def __init__(
        self, encode: Callable[[str], array[int]], cuts: Cuts, *, bytes_max: int = BYTES_MAX, span: int = SPAN
    ) -> None:
        self._encode = encode
        self._cuts = cuts
        self._bytes_max = bytes_max
        self._span = span
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._counts = _Counts()

    def encode(self, text: str) -> array[int]:
        """The text's ids, the same as the tokenizer's own."""
        segments, tail = self._cut(text)
        parts = self._look_up(segments)
        new: dict[str, bytes] = {}
        for number, (segment, part) in enumerate(zip(segments, parts, strict=True)):
            if part is None:
                if segment not in new:
                    new[segment] = self._encode(segment).tobytes()
                parts[number] = new[segment]
        self._keep(new, len(tail))
        ids = array("I", b"".join(part for part in parts if part is not None))
        if tail:
            ids.extend(self._encode(tail))
        return ids

    def stats(self) -> dict[str, int]:
        """What was reused so far, and what it takes."""
        with self._lock:
            counts = self._counts
            return {
                "segment_hits": counts.hits,
                "segment_misses": counts.misses,
                "segment_evictions": counts.evictions,
                "segments": len(self._kept),
                "segment_bytes": self._bytes,
                "segment_bytes_max": self._bytes_max,
                "chars_reused": counts.chars_reused,
                "chars_tokenized": counts.chars_tokenized,
            }

    def clear(self) -> None:
        """Forget all texts."""
        with self._lock:
            self._kept.clear()
            self._bytes = 0

    def _cut(self, text: str) -> tuple[list[str], str]:
        segments, start = [], 0
        while (end := self._cuts.next(text, start + self._span)) is not None:
            segments.append(text[start:end])
            start = end
        return segments, text[start:] if start else text

    def _look_up(self, segments: list[str]) -> list[bytes | None]:
        with self._lock:
            parts = [self._kept.get(segment) for segment in segments]
            for segment, part in zip(segments, parts, strict=True):
                if part is not None:
                    self._kept.move_to_end(segment)
                    self._counts.hits += 1
                    self._counts.chars_reused += len(segment)
            return parts

    def _keep(self, new: dict[str, bytes], tail_chars: int) -> None:
        with self._lock:
            self._counts.misses += len(new)
            self._counts.chars_tokenized += tail_chars + sum(map(len, new))
            for segment, part in new.items():
                if segment not in self._kept:
                    self._kept[segment] = part
                    self._bytes += _cost(segment, part)
            while self._bytes > self._bytes_max:
                self._bytes -= _cost(*self._kept.popitem(last=False))
                self._counts.evictions += 1


def _cost(segment: str, part: bytes) -> int:
    return sys.getsizeof(segment) + len(part) + ENTRY_BYTES
