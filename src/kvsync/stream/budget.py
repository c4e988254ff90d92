"""
How many live frames of one engine are read: as many as it likes, until it has sent more than any engine would for long.

An engine publishes a batch a step, so a thousand a second are many. One that goes on sending twenty times that is
mad, or means harm. What is beyond its budget is not read: it waits in libzmq's queue, then in the publisher's, which
drops. So the others have their turns, the thread has time for them, and only the mad one's record suffers, by gaps.

Each 4 KiB of what comes together count as one frame more: what takes the time is what they tell. A step's batch is
seldom as large.
"""

from __future__ import annotations

from typing import Final

COUNTED_BYTES: Final = 4_096


def cost_of(frames: int, size: int) -> int:
    """
    How many frames those count for that came together, with so many bytes.
    """
    return frames + size // COUNTED_BYTES


class Budget:
    """
    A budget of `rate` frames a second, of which `burst` may be spent at once after a quiet time; None: no limit.
    """

    def __init__(self, rate: float | None, burst: int) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._left = float(burst)
        self._at: float | None = None

    def __repr__(self) -> str:
        return f"<Budget {self._left:.0f} of {self._burst:.0f} frames>"

    def allowed(self, wanted: int, now: float) -> int:
        """How many frames of those wanted may be read now."""
        if self._rate is None:
            return wanted
        left = self._left if self._at is None or now < self._at else self._left + self._rate * (now - self._at)
        self._left, self._at = min(self._burst, left), now
        return wanted if self._left >= wanted else max(0, int(self._left))

    def spend(self, count: int) -> None:
        """Take note of frames that were read; more than were left is a debt."""
        if self._rate is not None:
            self._left -= count
