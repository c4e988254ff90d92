"""
A socket as its receiver knows it, and the live stream on it while the core follows that by itself.

Most of the time an engine says one batch after the other, and nothing has to be decided. For as long as that lasts its
lane is open: batches with the numbers that are awaited go from the socket into the index inside the core, and this
room is shown none of them. Whoever wants to know closes the lane, and is told what was followed.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple, Protocol

import zmq

from kvsync._core import check, ffi, lib

Socket = zmq.Socket[bytes]


class Followed(NamedTuple):
    """
    Live frames that the core has applied: how many, their bytes with number and topic, when the last one came, in
    seconds of the subscriber's clock, and its payload.
    """

    frames: int
    size: int
    at: float
    payload: bytes


class Lane(Protocol):
    """
    What a receiver reads. Belongs to the I/O thread, but for `close`.
    """

    @property
    def can_open(self) -> bool:
        """Whether the core can follow what is on the socket."""
        ...

    def limit(self, messages_max: int, largest_max: int) -> None:
        """Take no more messages than so many in one call, and tell of one with more bytes than so many."""
        ...

    def open(self, engine: int, number: int) -> None:
        """Follow the stream of the engine that the index knows by this number, from a sequence number on."""
        ...

    def close(self) -> Followed | None:
        """Follow nothing any longer, nor be in the middle of it; gives what was followed since it was opened."""
        ...


class CoreLane:
    """
    A socket that the core reads.
    """

    __slots__ = ("core",)

    can_open: Final = True

    def __init__(self, socket: Socket) -> None:
        made = ffi.new("kvs_lane **")
        check(lib.kvs_lane_create(made))
        self.core = ffi.gc(made[0], lib.kvs_lane_destroy)
        self.core.socket = ffi.cast("void *", socket.underlying)

    def __repr__(self) -> str:
        return "<CoreLane>"

    def limit(self, messages_max: int, largest_max: int) -> None:
        """Bound what is taken, and what is passed over in silence."""
        self.core.messages_max, self.core.largest_max = messages_max, largest_max

    def open(self, engine: int, number: int) -> None:
        """Let the core follow."""
        lib.kvs_lane_open(self.core, engine, number)

    def close(self) -> Followed | None:
        """Let it follow no longer."""
        found: Any = ffi.new("kvs_followed *")
        lib.kvs_lane_close(self.core, found)
        if not found.messages:
            return None
        payload = ffi.buffer(found.payload, found.payload_bytes)[:] if found.payload_bytes else b""
        return Followed(found.messages, found.bytes, found.at, payload)


class PartLane:
    """
    A socket that is read part by part: nobody but its reader follows it.
    """

    __slots__ = ("messages_max", "socket")

    can_open: Final = False

    def __init__(self, socket: Socket) -> None:
        self.socket = socket
        self.messages_max = 0

    def __repr__(self) -> str:
        return "<PartLane>"

    def limit(self, messages_max: int, largest_max: int) -> None:
        """Bound what is taken; everything is told of."""
        self.messages_max = messages_max

    def open(self, engine: int, number: int) -> None:
        """Never called, see `can_open`."""
        raise NotImplementedError

    def close(self) -> None:
        """Nothing was followed."""
