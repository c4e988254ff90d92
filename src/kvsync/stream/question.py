"""
What is asked of an engine's replay port: whether, why, and what was known when it was.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from kvsync.stream.bookmark import Last


class Replay(Enum):
    """How missing numbers may come back."""

    NONE = "none"
    """The engine has no replay port: a hole is passed over at once."""

    ASKED = "asked"
    """By request."""

    GIVEN = "given"
    """Unasked, at any time: in a capture the questions are not recorded, only the answers."""


class Purpose(Enum):
    """Why a replay was asked for."""

    BEGINNING = "beginning"
    GAP = "gap"
    VERIFY = "verify"
    PROBE = "probe"


@dataclass(slots=True)
class Question:
    """
    A replay under way.

    `last` is the batch whose bytes must come first, until they have. `heard` is the last number of the
    answer so far. `applied` and `live_last` are those of the moment of asking.
    """

    start: int
    purpose: Purpose
    deadline: float
    last: Last | None
    applied: int | None
    live_last: int | None
    heard: int | None = None

    @property
    def is_unverified(self) -> bool:
        """Whether it is not yet certain whom live frames follow, so that they wait although they follow."""
        return self.purpose is Purpose.VERIFY and self.last is not None

    def is_contradicted(self, live_last: int | None) -> bool:
        """Whether an answer without a single batch comes from an engine that had surely published some."""
        if self.heard is not None:
            return False
        if self.last is None:
            return self.live_last is not None and self.live_last >= self.start
        return self.purpose is Purpose.PROBE and live_last != self.live_last
