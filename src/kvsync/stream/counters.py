"""
What became of a stream's frames, in numbers, and the reasons by which frames are dropped or doubted.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from kvsync.stream.instructions import Drop

DUPLICATE: Final = "duplicate"
END_MARKER: Final = "end_marker"
OLD_LIFE: Final = "old_life"
OVERFLOW: Final = "overflow"
REPLAY_ORDER: Final = "replay_order"
RECONNECT: Final = "reconnect"
RESTART: Final = "restart"
UNASKED: Final = "unasked"

UNVERIFIED: Final = "unverified"
WRAPPED: Final = "wrapped"
OVERSIZE: Final = "oversize"


@dataclass(slots=True)
class Counters:
    """
    What has happened since the stream was first followed.

    `gaps` counts holes met, `unfilled` those passed over, `rebuilds` records built anew within a life.
    """

    received: int = 0
    applied: int = 0
    duplicate: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    gaps: int = 0
    unfilled: int = 0
    replays: int = 0
    replay_failures: int = 0
    restarts: int = 0
    rebuilds: int = 0
    reconnects: int = 0
    oversize: int = 0

    def drop(self, reason: str) -> Drop:
        """Count a frame that is not applied."""
        self.dropped[reason] += 1
        return Drop(reason)

    def drop_duplicate(self) -> Drop:
        """Count a frame that is known."""
        self.duplicate += 1
        return Drop(DUPLICATE)
