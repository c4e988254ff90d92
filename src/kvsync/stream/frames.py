"""
ZeroMQ multipart messages to (number, payload), for the live stream and both forms of a replay.

    live     topic | number | payload
    replay   [empty |] [topic |] number | payload      an empty payload ends the answer

The live form is strict. A replay is read from its end, because releases differ in what stands before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from kvsync.stream.instructions import Payload

Frames: TypeAlias = Sequence[Payload]

PUB = "pub"
REPLAY = "replay"
CHANNELS = (PUB, REPLAY)

NUMBER_BYTES = 8

NUMBER_MAX = 2**63 - 1
"""Above it lies what no publisher reaches, and the number of an end marker."""

LIVE_FRAMES = 3
REPLAY_FRAMES = (2, 3, 4)
"""Number and payload, with a topic before them, and with the empty frame that a DEALER sees before that."""

WRONG_FRAMES = "frame_count"
WRONG_NUMBER = "number"


@dataclass(frozen=True, slots=True)
class Batch:
    """A frame that carries an event batch."""

    number: int
    payload: Payload


@dataclass(frozen=True, slots=True)
class EndMarker:
    """The last frame of a replay."""


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A message of the wrong shape."""

    reason: str


def read_live(frames: Frames) -> Batch | Unreadable:
    """
    Read one message of the live stream.
    """
    if len(frames) != LIVE_FRAMES:
        return Unreadable(WRONG_FRAMES)
    return _batch(frames[1], frames[2])


def read_replay(frames: Frames) -> Batch | EndMarker | Unreadable:
    """
    Read one message of a replay, as a DEALER gets it or without its first, empty frame.
    """
    if len(frames) not in REPLAY_FRAMES:
        return Unreadable(WRONG_FRAMES)
    if len(frames[-1]) == 0:
        return EndMarker()
    return _batch(frames[-2], frames[-1])


def number_frame(number: int) -> bytes:
    """
    The eight bytes that stand for a sequence number.
    """
    return number.to_bytes(NUMBER_BYTES, "big")


def _batch(number_bytes: Payload, payload: Payload) -> Batch | Unreadable:
    if len(number_bytes) != NUMBER_BYTES:
        return Unreadable(WRONG_NUMBER)
    number = int.from_bytes(number_bytes, "big")
    return Batch(number, payload) if number <= NUMBER_MAX else Unreadable(WRONG_NUMBER)
