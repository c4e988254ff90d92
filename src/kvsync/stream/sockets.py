"""
The two kinds of socket an engine needs, each with its monitor. How libzmq is used is said here, and in `receiver` that
takes the messages off.

    Line       SUB, connected to the engine's PUB or bound for it. libzmq reconnects it, except after a violation
               of the protocol, which a frame above MAXMSGSIZE counts as: then it drops the connection for good
    Question   DEALER for one replay request and its answer, thrown away after it

A monitor tells of connections on a socket of its own. An event is written there before the first message of
its connection can be read, so whoever reads messages first and the monitor after them misses no reconnection.

A socket is waited for by its file descriptor. libzmq makes that readable when its state changes, not while
messages are there: after each wake-up, and after each call that may have eaten one, a socket must be read until
`has_more` says no, or until it has run dry. Until then the descriptor stays readable, so whether a monitor has
something to tell can be asked of many at once, by one look at their descriptors after the messages were read.
"""

from __future__ import annotations

import contextlib
import errno
import itertools
from collections.abc import Sequence
from random import Random
from typing import Final

import zmq

from kvsync.stream.connection import WATCHED_EVENTS, Connection, event_of
from kvsync.stream.endpoints import Source, is_ipv6
from kvsync.stream.frames import Frames, number_frame
from kvsync.stream.instructions import Payload
from kvsync.stream.options import SubscriberOptions
from kvsync.stream.receiver import Burst, Receiver, new_receiver

HANDSHAKE_MS: Final = 10_000
HEARTBEATS_MISSED: Final = 2

ZERO_COPY_RECV: Final = 10
"""
libzmq's context option, which pyzmq does not name. By default a message that waits holds the 8 KiB it was read into, in
which it is mostly alone: a queue of small frames then takes sixteen times their size. Large ones are read in place
either way.
"""

EVENTS: Final = int(zmq.EVENTS)
NOBLOCK: Final = int(zmq.NOBLOCK)
POLLIN: Final = int(zmq.POLLIN)
"""As plain integers: the enumerations cost more than the calls that they are given to."""

SOCKETS_PER_ENGINE: Final = 6
"""Line and question, each with the two ends of its monitor."""

ROOM_MIN: Final = 2
"""Messages that may wait however large they are."""

_monitor_ids = itertools.count()

SocketError = zmq.ZMQError


class Context(zmq.Context[zmq.Socket[bytes]]):
    """
    Where sockets come from, and what their messages are taken with: the sockets of a context belong to one thread.
    """

    receiver: Receiver


def new_context(options: SubscriberOptions) -> Context:
    """
    A context with room for the sockets of `engines_max` engines.
    """
    context = Context(io_threads=options.io_threads)
    context.receiver = new_receiver()
    wanted = SOCKETS_PER_ENGINE * options.engines_max + SOCKETS_PER_ENGINE
    context.set(zmq.MAX_SOCKETS, min(wanted, context.get(zmq.SOCKET_LIMIT)))
    with contextlib.suppress(zmq.ZMQError):  # a release that does not know it has no such buffers
        context.set(ZERO_COPY_RECV, 0)
    return context


class WatchedSocket:
    """
    A socket and its monitor, read without waiting.
    """

    def __init__(self, context: Context, kind: int, options: SubscriberOptions, rng: Random, room: int) -> None:
        self._options = options
        self._socket = context.socket(kind)
        self._monitor: zmq.Socket[bytes] | None = None
        self.room = room
        self.largest = 0
        self.is_closed = False
        self._receiver = context.receiver
        self.lane = self._receiver.lane_of(self._socket)
        self.connection = Connection()
        try:
            self._configure(rng)
            self._monitor = self._socket.get_monitor_socket(
                WATCHED_EVENTS, addr=f"inproc://kvsync-monitor-{next(_monitor_ids)}"
            )
        except zmq.ZMQError:
            self.close()
            raise

    @property
    def fd(self) -> int:
        """The file descriptor that becomes readable when there may be messages."""
        return int(self._socket.FD)

    @property
    def monitor_fd(self) -> int:
        """The one that becomes readable when there may be news."""
        assert self._monitor is not None, "closed"
        return int(self._monitor.FD)

    def has_more(self) -> bool:
        """Whether a message is there."""
        return _is_readable(self._socket)

    def limit(self, frames_max: int) -> None:
        """How many messages are taken at once from now on."""
        if self.is_closed:
            raise zmq.ZMQError(errno.ENOTSOCK)  # where it was is somebody else's memory
        self.lane.limit(frames_max, max(self.largest, self._options.queue_bytes_max // self.room))

    def note(self, burst: Burst) -> None:
        """Take note of what came. Raises zmq.ZMQError for what ended it, unless no more was there."""
        self.largest = max(self.largest, burst.largest)
        if burst.error and not burst.is_dry:
            raise zmq.ZMQError(burst.error)

    def receive_burst(self, frames_max: int, bytes_max: int) -> Burst:
        """Take messages up to a number and a size; the lane is to be closed."""
        self.limit(frames_max)
        (burst,) = self._receiver.receive([self.lane], bytes_max).bursts([0])
        self.note(burst)
        return burst

    @property
    def room_wanted(self) -> int:
        """For how many messages there would be room if all were of the largest size so far: less is another socket."""
        return room_for(self.largest, self._options) if self.largest else self.room

    def receive(self) -> Frames | None:
        """Take one message; None if there is none."""
        messages = self.receive_burst(1, 1).messages()
        return messages[0] if messages else None

    def news(self) -> list[int]:
        """What the monitor has to tell, in order, for `connection` to take."""
        told: list[int] = []
        monitor = self._monitor
        while monitor is not None and _is_readable(monitor):
            told.append(event_of(monitor.recv_multipart(NOBLOCK)[0]))
        return told

    def close(self) -> None:
        """Close both; nothing that was not yet sent or read is kept."""
        if self._monitor is not None:
            self._socket.disable_monitor()
            self._monitor.close(0)
            self._monitor = None
        self.is_closed = True
        self._socket.close(0)

    def _configure(self, rng: Random) -> None:
        options, socket = self._options, self._socket
        # libzmq doubles the pause from the first to the longest and adds up to one first pause by lot. Drawing
        # both once an engine keeps a fleet apart at the cap as well, where libzmq alone would not.
        first_ms = round(options.reconnect_first_s * 1000 * rng.uniform(0.75, 1.25))
        longest_ms = round(options.reconnect_max_s * 1000 * rng.uniform(0.6, 1.0)) - first_ms
        socket.setsockopt(zmq.LINGER, 0)
        socket.setsockopt(zmq.MAXMSGSIZE, options.frame_bytes_max)
        socket.setsockopt(zmq.RCVHWM, self.room)
        socket.setsockopt(zmq.RECONNECT_IVL, first_ms)
        socket.setsockopt(zmq.RECONNECT_IVL_MAX, max(first_ms, longest_ms))
        socket.setsockopt(zmq.HANDSHAKE_IVL, HANDSHAKE_MS)
        if options.curve is not None:
            socket.setsockopt(zmq.CURVE_SECRETKEY, options.curve.secret)
            socket.setsockopt(zmq.CURVE_PUBLICKEY, zmq.curve_public(options.curve.secret))
            socket.setsockopt(zmq.CURVE_SERVERKEY, options.curve.server)
        if options.heartbeat_s is not None:
            heartbeat_ms = round(options.heartbeat_s * 1000)
            socket.setsockopt(zmq.HEARTBEAT_IVL, heartbeat_ms)
            socket.setsockopt(zmq.HEARTBEAT_TIMEOUT, HEARTBEATS_MISSED * heartbeat_ms)


class Line(WatchedSocket):
    """
    The live stream of one engine. Raises `SocketError` if its endpoint cannot be had.
    """

    def __init__(self, context: Context, source: Source, options: SubscriberOptions, rng: Random, room: int) -> None:
        super().__init__(context, zmq.SUB, options, rng, room)
        try:
            self._socket.setsockopt(zmq.IPV6, is_ipv6(source.events))
            self._socket.setsockopt(zmq.SUBSCRIBE, source.topic.encode())
            if source.bind:
                self._socket.bind(source.events)
            else:
                self._socket.connect(source.events)
        except zmq.ZMQError:
            self.close()
            raise


class Question(WatchedSocket):
    """
    One request for a replay, sent at once, and its answer. Raises `SocketError` if its endpoint cannot be used.
    """

    def __init__(
        self, context: Context, endpoint: str, start: int, options: SubscriberOptions, rng: Random, room: int
    ) -> None:
        super().__init__(context, zmq.DEALER, options, rng, room)
        try:
            self._socket.setsockopt(zmq.IPV6, is_ipv6(endpoint))
            self._socket.connect(endpoint)
            self._socket.send_multipart([b"", number_frame(start)], zmq.NOBLOCK)
        except zmq.ZMQError:
            self.close()
            raise


def room_for(size: int, options: SubscriberOptions) -> int:
    """
    How many messages of a size may wait in libzmq, which counts them and not their bytes: a power of two, or all.

    A socket keeps what it was opened with. Where less is set later, libzmq's reader may never tell its writer again
    that there is room: it does so after half as many messages as the setting allows, and they do not come.
    """
    room = max(ROOM_MIN, options.queue_bytes_max // size)
    return options.queue_frames_max if room >= options.queue_frames_max else 1 << (room.bit_length() - 1)


def size_of(frames: Sequence[Payload]) -> int:
    """
    The bytes of a message.
    """
    return sum(map(len, frames))


def _is_readable(sock: zmq.Socket[bytes]) -> bool:
    return bool(sock.getsockopt(EVENTS) & POLLIN)  # type: ignore[operator]  # an integer, for this option
