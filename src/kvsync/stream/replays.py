"""
Who may ask for a replay next: few at once, whoever matters most first, newcomers spread in time.

An engine answers replays in the thread that publishes, one after the other, so every daemon that asks makes all
others, and its live stream, wait. After a rollout all daemons ask all engines at once. What one daemon can do about it
without knowing of the others:

    limit     only so many questions of its own are open at a time
    spread    a first contact waits for a moment drawn by lot, and each daemon draws its own order
    order     1 frames wait: the record is behind a stream that flows
              2 a record is to be verified: it may be an old life's
              3 a first contact: there is nothing yet
              4 nothing is known to be missing: probes, and records to be built anew
              and within each, the engine that is asked for most, then the one that has waited longest

An answer that goes on for longer than any buffer does counts no more: an engine that never ends one is in nobody's way.

No sockets, and no clock of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from random import Random
from typing import Final, Generic, TypeVar

Key = TypeVar("Key")

OVERDUE_S: Final = 30.0
"""So long a replay takes a slot at most."""


class Urgency(IntEnum):
    """Why a replay is wanted, the most urgent first."""

    BEHIND = 1
    VERIFY = 2
    FIRST = 3
    IDLE = 4


@dataclass(slots=True)
class _Want:
    """One that waits for its turn, and may have it from `due` on."""

    urgency: Urgency
    weight: float
    since: float
    due: float

    @property
    def rank(self) -> tuple[int, float, float]:
        return (self.urgency, -self.weight, self.since)


class Turns(Generic[Key]):
    """
    The replays of one daemon: `slots` at a time, first contacts spread over `spread_s` seconds.
    """

    def __init__(self, slots: int, spread_s: float, rng: Random) -> None:
        self._slots = slots
        self._spread_s = spread_s
        self._rng = rng
        self._open: dict[Key, float] = {}
        self._wants: dict[Key, _Want] = {}

    def __repr__(self) -> str:
        return f"<Turns {self.open} of {self._slots} open, {len(self._wants)} waiting>"

    @property
    def open(self) -> int:
        """How many ask now."""
        return len(self._open)

    @property
    def waiting(self) -> int:
        """How many want to."""
        return len(self._wants)

    def take(self, key: Key, urgency: Urgency, now: float, weight: float = 0.0) -> bool:
        """
        Whether it is this one's turn; if not it is kept in mind, and is to ask again.

        A want may become more urgent while it waits. Its moment is drawn once.
        """
        assert key not in self._open, "one question at a time"
        want = self._wants.get(key)
        if want is None:
            delay_s = self._rng.uniform(0, self._spread_s) if urgency is Urgency.FIRST else 0.0
            want = self._wants[key] = _Want(urgency, weight, now, now + delay_s)
        elif urgency is not want.urgency:
            want.urgency, want.due = urgency, min(want.due, now if urgency < Urgency.FIRST else want.due)
        want.weight = weight
        if want.due > now or not self._is_next(want, now):
            return False
        del self._wants[key]
        self._open[key] = now
        return True

    def give_back(self, key: Key) -> None:
        """The replay is over, or is not wanted any more; does nothing for one that neither asks nor waits."""
        self._open.pop(key, None)
        self._wants.pop(key, None)

    def _is_next(self, want: _Want, now: float) -> bool:
        free = self._slots - sum(now - began < OVERDUE_S for began in self._open.values())
        if free <= 0 or free >= len(self._wants):
            return free > 0
        # Stops as soon as it is clear, for with a thousand that wait this is asked by each of them.
        for each in self._wants.values():
            if each.due <= now and each.rank < want.rank:
                free -= 1
                if free == 0:
                    return False
        return True
