"""
Messages off sockets, as many as are there: by the C core, which calls libzmq itself, or part by part through pyzmq.

Through pyzmq each part of a message is a call that gives up the GIL, and an object: for a batch of a few blocks more
than all else that is done with it. So the core is told where libzmq is, and which sockets are meant. Both are pyzmq's,
which gives a socket's address for this. A pyzmq whose libzmq cannot be found (linked into it without its names, or
another backend) is used as it is.
"""

from __future__ import annotations

import errno
import logging
import sys
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, Protocol, runtime_checkable

import zmq

from kvsync._core import ffi, lib
from kvsync.stream.frames import Frames
from kvsync.stream.lane import CoreLane, Lane, PartLane, Socket
from kvsync.types import Engine

logger = logging.getLogger(__name__)

NOBLOCK: Final = int(zmq.NOBLOCK)
"""As a plain integer: the enumeration costs more than the call that it is given to."""

MESSAGE_SINCE: Final = (4, 1)
"""The libzmq from which on a message has the size that the core gives it."""


class Burst(NamedTuple):
    """
    The messages that came off one socket, `total` of them.

    The core has `followed` the first of these by itself. `size` is their bytes, and `largest` those of the largest.
    `error` is what ended it, as errno has it: EAGAIN if no more is there, ENOMEM if one found no room and is lost; 0 if
    there may be more. The rest says where they are, see `kvs_burst` in csrc/include/kvsync.h.
    """

    total: int
    followed: int
    size: int
    largest: int
    error: int
    contents: bytes
    begin: int
    table: Sequence[int]
    row: int

    @property
    def is_dry(self) -> bool:
        """Whether no more was there."""
        return self.error == errno.EAGAIN

    def messages(self) -> list[Frames]:
        """Those that nobody has followed, each as its parts."""
        contents, table, begin, row = self.contents, self.table, self.begin, self.row
        messages: list[Frames] = []
        if self.followed == self.total:
            return messages  # there is no table then
        for _ in range(self.total):
            message = []
            for end in table[row + 1 : row + 1 + table[row]]:
                message.append(contents[begin:end])
                begin = end
            messages.append(message)
            row += 1 + len(message)
        return messages[self.followed :]


SILENCE: Final = Burst(0, 0, 0, 0, errno.EAGAIN, b"", 0, (), 0)
"""Nothing was there."""

LOST: Final = SILENCE._replace(error=errno.ENOMEM)
"""There was no memory for what was there."""


@runtime_checkable
class Follower(Protocol):
    """An index that the core can apply batches to by itself."""

    def number_of(self, engine: Engine, model: str) -> int:
        """The number that the core knows an engine by, which is made known if it is not."""
        ...

    def follow(self, lanes: Any, count: int, burst: Any, now: float) -> Sequence[int]:
        """Apply what came off lanes, as far as it plainly follows; gives which of them want a look."""
        ...


class Haul(Protocol):
    """What came off several sockets, until the next is taken."""

    count: int
    """How many of the lanes were read."""

    def follow(self, index: Follower | None, now: float) -> Sequence[int]:
        """Let the core apply what it can; gives which lanes, by their places, are to be looked at."""
        ...

    def bursts(self, places: Sequence[int]) -> list[Burst]:
        """What came off these."""
        ...


class Receiver(Protocol):
    """How messages are taken off sockets. Belongs to one thread, as they do."""

    def lane_of(self, socket: Socket) -> Lane:
        """What `receive` knows the socket by, for as long as it is open."""
        ...

    def receive(self, lanes: Sequence[Any], bytes_max: int) -> Haul:
        """
        Take whole messages that are there off one socket after the other, and none once there are so many bytes.

        Of all sockets, or of those that were read before the bytes had come together: always the first.
        """
        ...


def new_receiver() -> Receiver:
    """
    The quickest there is.
    """
    if LIBZMQ is None:
        logger.info(
            "no libzmq to call is found in pyzmq: messages are read part by part, which takes more processor time"
        )
        return PartReceiver()
    return CoreReceiver()


def find_libzmq() -> Any | None:
    """
    The functions of the libzmq that pyzmq uses, None if they cannot be found.
    """
    path = getattr(sys.modules[zmq.backend.Socket.__module__], "__file__", None)
    found = ffi.new("kvs_zmq *")
    if path is None or zmq.zmq_version_info() < MESSAGE_SINCE:
        return None
    return found if lib.kvs_zmq_find(path.encode(), found) == lib.KVS_OK else None


LIBZMQ: Final = find_libzmq()


class CoreReceiver:
    """
    All messages of all sockets in one call of the core.
    """

    def __init__(self) -> None:
        self._burst = ffi.gc(ffi.new("kvs_burst *"), lib.kvs_burst_free)

    def __repr__(self) -> str:
        return "<CoreReceiver>"

    def lane_of(self, socket: Socket) -> CoreLane:
        """The core's."""
        return CoreLane(socket)

    def receive(self, lanes: Sequence[CoreLane], bytes_max: int) -> CoreHaul:
        """Take what is there."""
        rows = ffi.new("kvs_lane *[]", [lane.core for lane in lanes])
        return CoreHaul(rows, lib.kvs_receive(LIBZMQ, rows, len(lanes), bytes_max, self._burst), self._burst)


class CoreHaul:
    """
    What the core took.
    """

    __slots__ = ("_burst", "_rows", "count")

    def __init__(self, rows: Any, count: int, burst: Any) -> None:
        self.count = count
        self._rows = rows
        self._burst = burst

    def __repr__(self) -> str:
        return f"<CoreHaul of {self.count} lanes>"

    def follow(self, index: Follower | None, now: float) -> Sequence[int]:
        """Let the core apply what it can."""
        return range(self.count) if index is None else index.follow(self._rows, self.count, self._burst, now)

    def bursts(self, places: Sequence[int]) -> list[Burst]:
        """Copied, for the next that is received is written over it."""
        burst, rows = self._burst, self._rows
        contents, table = b"", ()
        if any(rows[at].followed < rows[at].messages for at in places):
            contents = ffi.buffer(burst.bytes, burst.bytes_count)[:]
            table = ffi.unpack(burst.table, burst.table_count)
        bursts = []
        for at in places:
            begin, row = (rows[at - 1].bytes_end, rows[at - 1].table_end) if at else (0, 0)
            lane = rows[at]
            size = lane.bytes_end - begin
            bursts.append(
                Burst(lane.messages, lane.followed, size, lane.largest, lane.error, contents, begin, table, row)
            )
        return bursts


class PartReceiver:
    """
    Part by part, through pyzmq.
    """

    def __repr__(self) -> str:
        return "<PartReceiver>"

    def lane_of(self, socket: Socket) -> PartLane:
        """One that is never followed."""
        return PartLane(socket)

    def receive(self, lanes: Sequence[PartLane], bytes_max: int) -> PartHaul:
        """Take what is there."""
        bursts: list[Burst] = []
        for lane in lanes:
            if bursts and bytes_max <= 0:
                break
            bursts.append(_burst_of(lane, bytes_max))
            bytes_max -= bursts[-1].size
        return PartHaul(bursts)


class PartHaul:
    """
    What was taken part by part.
    """

    __slots__ = ("_bursts", "count")

    def __init__(self, bursts: list[Burst]) -> None:
        self.count = len(bursts)
        self._bursts = bursts

    def __repr__(self) -> str:
        return f"<PartHaul of {self.count} lanes>"

    def follow(self, index: Follower | None, now: float) -> Sequence[int]:
        """Nothing is followed."""
        return range(self.count)

    def bursts(self, places: Sequence[int]) -> list[Burst]:
        """As they are."""
        return [self._bursts[at] for at in places]


def _burst_of(lane: PartLane, bytes_max: int) -> Burst:
    messages: list[list[bytes]] = []
    size = largest = error = 0
    while not error and len(messages) < lane.messages_max and size < bytes_max:
        try:
            message = _message_of(lane.socket)
        except zmq.ZMQError as refused:
            error = refused.errno or errno.EIO
            break
        taken = sum(map(len, message))
        size, largest = size + taken, max(largest, taken)
        messages.append(message)
    contents = b"".join(map(b"".join, messages))
    return Burst(len(messages), 0, size, largest, error, contents, 0, _table_of(messages), 0)


def _table_of(messages: Sequence[Sequence[bytes]]) -> list[int]:
    table: list[int] = []
    end = 0
    for message in messages:
        table.append(len(message))
        for part in message:
            end += len(part)
            table.append(end)
    return table


def _message_of(socket: Socket) -> list[bytes]:
    # recv_multipart asks the socket for what a part knows already, at twice the price.
    part = socket.recv(NOBLOCK, copy=False)
    message = [part.bytes]
    while part.more:
        part = socket.recv(NOBLOCK, copy=False)
        message.append(part.bytes)
    return message
