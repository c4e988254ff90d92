"""
What the monitor of a socket tells of its connections, and what may be made of it.

libzmq gives a line up for good after an over-size frame. It says so by saying nothing: a lost connection that is
not followed by a retry. After `GIVEN_UP_S` of that the line is built anew.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final

import zmq

UP: Final = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
DOWN: Final = int(zmq.EVENT_DISCONNECTED)
RETRIED: Final = int(zmq.EVENT_CONNECT_RETRIED)
REFUSED: Final = frozenset(
    int(event)
    for event in (
        zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL,
        zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL,
        zmq.EVENT_HANDSHAKE_FAILED_AUTH,
    )
)
WATCHED_EVENTS: Final = UP | DOWN | RETRIED | sum(REFUSED)
HUNG_UP: Final = int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
"""Refused without a word: over CURVE by one who has another key, else perhaps by one who wants CURVE and is quicker."""

MISMATCH: Final = int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL) | 1 << 32
"""What `event_of` makes of a refusal because only one side uses CURVE."""

MISMATCH_VALUE: Final = int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH)
MONITOR_EVENT = struct.Struct("=HI")

GIVEN_UP_S: Final = 0.25


def event_of(frame: bytes) -> int:
    """`UP`, `DOWN`, `RETRIED`, `MISMATCH` or one of `REFUSED`, as the first frame of a monitor's message has it."""
    event, value = MONITOR_EVENT.unpack(frame)
    return MISMATCH if event in REFUSED and value == MISMATCH_VALUE else int(event)


@dataclass(slots=True)
class Connection:
    """
    How many connections of one socket are up, and since when it may be given up. Times are in seconds.
    """

    up: int = 0
    was_up: bool = False
    lost_at: float | None = None

    def take(self, event: int, now: float) -> None:
        """Take note of what the monitor told."""
        if event == UP:
            self.up += 1
            self.was_up, self.lost_at = True, None
        elif event == RETRIED:
            self.lost_at = None
        elif event == DOWN:
            self.up = max(0, self.up - 1)
            self.lost_at = now
        elif event in REFUSED or event == MISMATCH:
            self.was_up, self.lost_at = False, now

    def is_given_up(self, now: float) -> bool:
        """Whether libzmq does not try any more."""
        return self.up == 0 and self.lost_at is not None and now >= self.lost_at + GIVEN_UP_S


def refusal(event: int, endpoint: str, *, is_curve: bool) -> str:
    """Why who listens at an endpoint refused us, or we it."""
    if event == MISMATCH:
        return f"{endpoint} {'does not use CURVE, and we do' if is_curve else 'wants CURVE, and we have no key'}"
    if event == HUNG_UP:
        has_other_key = "has another CURVE key than ours: compare the key files"
        return f"{endpoint} {has_other_key if is_curve else 'hung up: is it the events port, and does it want CURVE?'}"
    return f"{endpoint} does not speak ZeroMQ's protocol: is it the events port?"
