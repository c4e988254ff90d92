"""
Records that were loaded and wait for their engines: each goes on where its stream does, or goes.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from kvsync.index import Hold
from kvsync.serve.ports import RecordView
from kvsync.stream.endpoints import Source
from kvsync.types import Bookmark, Engine

_logger = logging.getLogger(__name__)


class Records(Protocol):
    """What of an index is needed to hand its records on."""

    def engines(self) -> Sequence[Engine]: ...
    def record(self, engine: Engine) -> RecordView: ...
    def remove(self, engine: Engine) -> None: ...


class Claim(NamedTuple):
    """Where an engine's stream goes on, and whether the record before it was whole; no bookmark: it begins anew."""

    bookmark: Bookmark | None = None
    is_whole: bool = True


@dataclass(slots=True)
class Inherited:
    """
    Records that were loaded and wait for their engines.

    `origin` says where from: `cold` (there are none), `snapshot`, or a sibling's URL; `taken` when that was, in seconds
    since 1970. `doubtful` records were not exact when they were saved: they are built anew where that can be done. One
    that was saved again before its engine was found counts among them.
    """

    origin: str = "cold"
    taken: float | None = None
    loaded: int = 0
    bookmarks: dict[Engine, Bookmark] = field(default_factory=dict)
    unclaimed: set[Engine] = field(default_factory=set)
    doubtful: set[Engine] = field(default_factory=set)
    resumed: int = 0
    dropped: int = 0

    def claim(self, source: Source, index: Records) -> Claim:
        """Where an engine's stream goes on; if it begins anew, nothing of it is left in the index."""
        engine, bookmark = source.engine, self.bookmarks.pop(source.engine, None)
        if engine not in self.unclaimed:
            return Claim()
        self.unclaimed.discard(engine)
        model = index.record(engine).model
        if bookmark is not None and model == source.model:
            self.resumed += 1
            return Claim(bookmark, is_whole=engine not in self.doubtful)
        why = "it has no batch to compare" if model == source.model else f"it served {model!r}, now {source.model!r}"
        self._drop(engine, index, why)
        return Claim()

    def holding(self, hold: Hold) -> Hold:
        """
        The same hold, and the bookmarks of those that still wait: nothing is applied to their records.
        """

        def held(engine: Engine) -> AbstractContextManager[Bookmark | None]:
            return nullcontext(self.bookmarks.get(engine)) if engine in self.unclaimed else hold(engine)

        return held

    def drop_unclaimed(self, index: Records) -> None:
        """Let go of the records whose engines have not come."""
        for engine in sorted(self.unclaimed):
            self._drop(engine, index, "it is not there any more")
        self.unclaimed.clear()

    def view(self) -> dict[str, object]:
        """What `/v1/stats` shows."""
        return {
            "origin": self.origin,
            "taken": self.taken,
            "loaded": self.loaded,
            "resumed": self.resumed,
            "dropped": self.dropped,
        }

    def _drop(self, engine: Engine, index: Records, why: str) -> None:
        self.dropped += 1
        self.bookmarks.pop(engine, None)
        index.remove(engine)
        _logger.info("the loaded record of engine %s is dropped: %s", engine, why)
