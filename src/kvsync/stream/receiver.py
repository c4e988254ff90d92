"""
Messages off a socket, as many as are there: by the C core, which calls libzmq itself, or part by part through pyzmq.

Through pyzmq each part of a message is a call that gives up the GIL, and an object: for a batch of a few blocks more
than all else that is done with it. So the core is told where libzmq is, and which socket is meant. Both are pyzmq's,
which gives a socket's address for this. A pyzmq whose libzmq cannot be found (linked into it without its names, or
another backend) is used as it is.
"""

from __future__ import annotations

import logging
import sys
from typing import Any, Final, NamedTuple, Protocol

import zmq

from kvsync._core import check, ffi, lib
from kvsync.stream.frames import Frames

logger = logging.getLogger(__name__)

NOBLOCK: Final = int(zmq.NOBLOCK)
"""As a plain integer: the enumeration costs more than the call that it is given to."""

MESSAGE_SINCE: Final = (4, 1)
"""The libzmq from which on a message has the size that the core gives it."""

Socket = zmq.Socket[bytes]


class Burst(NamedTuple):
    """
    Messages that came, whether no more is there, and the bytes of the largest.
    """

    messages: list[Frames]
    is_dry: bool
    largest: int


class Receiver(Protocol):
    """How messages are taken off sockets. Belongs to one thread, as they do."""

    def handle_of(self, socket: Socket) -> Any:
        """What `receive` knows the socket by, for as long as it is open."""
        ...

    def receive(self, handle: Any, messages_max: int, bytes_max: int) -> Burst:
        """
        Take whole messages that are there: no more than so many, and none once there are so many bytes.

        Raises zmq.ZMQError where nothing could be taken for another reason than that nothing is there.
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
    All messages in one call of the core.
    """

    def __init__(self) -> None:
        self._burst = ffi.gc(ffi.new("kvs_burst *"), lib.kvs_burst_free)

    def __repr__(self) -> str:
        return "<CoreReceiver>"

    def handle_of(self, socket: Socket) -> Any:
        """Its address in libzmq."""
        return ffi.cast("void *", socket.underlying)

    def receive(self, handle: Any, messages_max: int, bytes_max: int) -> Burst:
        """Take what is there."""
        burst = self._burst
        check(lib.kvs_receive(LIBZMQ, handle, messages_max, bytes_max, burst))
        if not burst.messages:
            if burst.error:
                raise zmq.ZMQError(burst.error)
            return Burst([], bool(burst.is_dry), 0)
        contents = ffi.buffer(burst.bytes, burst.bytes_count)
        table = ffi.unpack(burst.table, burst.table_count)
        messages: list[Frames] = []
        begin = row = 0
        while row < len(table):
            ends = table[row + 1 : row + 1 + table[row]]
            row += 1 + len(ends)
            message = []
            for end in ends:
                message.append(contents[begin:end])
                begin = end
            messages.append(message)
        return Burst(messages, bool(burst.is_dry), burst.largest)


class PartReceiver:
    """
    Part by part, through pyzmq.
    """

    def __repr__(self) -> str:
        return "<PartReceiver>"

    def handle_of(self, socket: Socket) -> Socket:
        """Itself."""
        return socket

    def receive(self, handle: Socket, messages_max: int, bytes_max: int) -> Burst:
        """Take what is there."""
        messages: list[Frames] = []
        size = largest = 0
        while len(messages) < messages_max and size < bytes_max:
            try:
                message = _message_of(handle)
            except zmq.Again:
                return Burst(messages, True, largest)
            taken = sum(map(len, message))
            size, largest = size + taken, max(largest, taken)
            messages.append(message)
        return Burst(messages, False, largest)


def _message_of(socket: Socket) -> list[bytes]:
    # recv_multipart asks the socket for what a part knows already, at twice the price.
    part = socket.recv(NOBLOCK, copy=False)
    message = [part.bytes]
    while part.more:
        part = socket.recv(NOBLOCK, copy=False)
        message.append(part.bytes)
    return message
