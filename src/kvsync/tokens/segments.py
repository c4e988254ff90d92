"""
The prefix-token cache: text that was tokenized before is not tokenized again.

A text is cut from its beginning into segments, each ending where a cut is proved to change nothing (`cuts`): the first
at the first such place, the others at the first one behind `SPAN` characters, or behind an empty line before that. Its
ids are those of its segments, one after the other, so a segment's ids can be kept under its text and used wherever it
comes again. Two texts that begin alike are cut alike as far as they agree: of the next turn of a conversation only what
is new, and the segment before it, are tokenized. Behind an empty line a text is cut as if it began there, for some
engines put a system prompt before one question now, and before the next one in the next turn.

What is left behind the last cut, or a short text, is kept as well: where a chat's messages are tokenized one by one,
those ends are much of it. Nothing here is a guess: keys are the texts themselves, compared character by character. Of a
tokenizer for which no cut is proved, long texts are not kept, and tokenized anew.
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

LAST_MAX = 2 * SPAN
"""How long what is left behind the last cut may be to be kept."""

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
        self,
        encode: Callable[[str], array[int]],
        cuts: Cuts,
        *,
        bytes_max: int = BYTES_MAX,
        span: int = SPAN,
        last_max: int = LAST_MAX,
    ) -> None:
        self._encode = encode
        self._cuts = cuts
        self._bytes_max = bytes_max
        self._span = span
        self._last_max = last_max
        self._lock = threading.Lock()
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._bytes = 0
        self._counts = _Counts()

    def encode(self, text: str) -> array[int]:
        """The text's ids, the same as the tokenizer's own."""
        segments = self._cut(text)
        parts = self._look_up(segments)
        new: dict[str, bytes] = {}
        for number, (segment, part) in enumerate(zip(segments, parts, strict=True)):
            if part is None:
                if segment not in new:
                    new[segment] = self._encode(segment).tobytes()
                parts[number] = new[segment]
        if new:
            self._keep(new, segments[-1])
        return array("I", b"".join(part for part in parts if part is not None))

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

    def _cut(self, text: str) -> list[str]:
        """The text in order: segments, and what is left behind them."""
        segments, start = [], 0
        end = self._cuts.next(text, 0)
        while end is not None:
            segments.append(text[start:end])
            start = end
            blank = text.find("\n\n", start + self._span // 8, start + self._span)
            end = self._cuts.next(text, start + self._span if blank < 0 else blank + len("\n\n"))
        if start < len(text):
            segments.append(text[start:] if start else text)
        return segments

    def _look_up(self, segments: list[str]) -> list[bytes | None]:
        with self._lock:
            parts = list(map(self._kept.get, segments))
            found = [segment for segment, part in zip(segments, parts, strict=True) if part is not None]
            for segment in found:
                self._kept.move_to_end(segment)
            self._counts.hits += len(found)
            self._counts.chars_reused += sum(map(len, found))
            return parts

    def _keep(self, new: dict[str, bytes], last: str) -> None:
        """Keep what was tokenized; not so the last part of a text where that is long."""
        with self._lock:
            self._counts.misses += len(new)
            self._counts.chars_tokenized += sum(map(len, new))
            for segment, part in new.items():
                if segment not in self._kept and (segment is not last or len(last) <= self._last_max):
                    self._kept[segment] = part
                    self._bytes += _cost(segment, part)
            while self._bytes > self._bytes_max:
                self._bytes -= _cost(*self._kept.popitem(last=False))
                self._counts.evictions += 1


def _cost(segment: str, part: bytes) -> int:
    return sys.getsizeof(segment) + len(part) + ENTRY_BYTES
