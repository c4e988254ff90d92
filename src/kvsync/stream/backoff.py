"""
How long to wait before trying again: longer each time, up to a cap, and never all engines at once.
"""

from __future__ import annotations

from random import Random

GROWTH = 2.0
JITTER = 0.25
"""The share of a pause that is drawn by lot. It goes down from the pause, so the cap holds."""


class Backoff:
    """
    The pauses of one engine. The first is about `first_s`; no pause is longer than `max_s`.
    """

    def __init__(self, first_s: float, max_s: float, rng: Random) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._rng = rng
        self._next_s = first_s

    def pause(self) -> float:
        """Give the next pause in seconds."""
        pause = min(self._next_s, self._max_s)
        self._next_s = min(self._next_s * GROWTH, self._max_s)
        return pause * self._rng.uniform(1 - JITTER, 1)

    def reset(self) -> None:
        """Start over: it worked."""
        self._next_s = self._first_s
