"""
The event sockets of one rank: batches out by PUB, and asked for again through a ROUTER.

Everything runs in the owner's event loop. `publish` numbers a batch, keeps it for replay and hands it to
libzmq, which never blocks: a subscriber that is too slow loses batches, silently, as PUB has it. One task
answers replay requests, one at a time; it gives way to the rest of the loop every few batches, so live
batches and a long replay pass each other, and a subscriber meets the same number on both.

    PUB      topic | number (8 bytes, big-endian) | payload
    ROUTER   asked  identity | empty | first number wanted
             given  identity | empty | [topic] | number | payload     for every kept batch from there on
                    identity | empty | [empty] | ff * 8  | empty      the end
             The frames in brackets are there since vLLM 0.26. Any other request gets no answer at all.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import islice

import zmq
import zmq.asyncio

from kvsync.engine.events import CacheEvent
from kvsync.engine.wire import Wire
from kvsync.errors import ConfigError

logger = logging.getLogger(__name__)

_END = b"\xff" * 8
_SEQUENCE_BYTES = 8
_REPLAY_SLICE = 64


@dataclass(frozen=True, slots=True)
class PublisherOptions:
    """
    Where and how a rank publishes.

    `bind` is for the events socket; the replay socket always binds. `hwm` is how many batches libzmq keeps
    for a slow subscriber, `buffer_steps` how many stay replayable. With `curve_key`, a secret one, only
    those are served who know its public half.
    """

    events: str
    replay: str | None = None
    topic: str = ""
    bind: bool = True
    buffer_steps: int = 10_000
    hwm: int = 100_000
    curve_key: bytes | None = field(default=None, repr=False)


class Publisher:
    """
    Batches of one rank, numbered from 0 at each start.

    `events` and `replay` are the real addresses once `open` has returned.
    """

    def __init__(
        self, options: PublisherOptions, *, wire: Wire, rank: int, context: zmq.Context[zmq.Socket[bytes]]
    ) -> None:
        self.events = options.events
        self.replay = options.replay
        self.sequence: int | None = None
        self._options = options
        self._topic = options.topic.encode()
        self._wire = wire
        self._rank = rank
        self._kept: deque[tuple[int, bytes]] = deque(maxlen=options.buffer_steps)
        self._context = context
        self._pub: zmq.Socket[bytes] | None = None
        self._router: zmq.asyncio.Socket | None = None
        self._serving: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<Publisher rank {self._rank} on {self.events} sequence={self.sequence} kept={len(self._kept)}>"

    def open(self) -> None:
        """Open the sockets; raises `ConfigError` for an address that cannot be had."""
        self._pub = self._context.socket(zmq.PUB)
        self._pub.setsockopt(zmq.SNDHWM, self._options.hwm)
        self._pub.setsockopt(zmq.LINGER, 0)
        _encrypt(self._pub, self._options.curve_key)
        if self._options.bind:
            self.events = _bind(self._pub, self._options.events, "events")
        else:
            _connect(self._pub, self._options.events)
        if self._options.replay is not None:
            self._router = zmq.asyncio.Context.shadow(self._context.underlying).socket(zmq.ROUTER)
            # Room for the longest answer there can be, or a slow reader would lose its middle.
            self._router.setsockopt(zmq.SNDHWM, 2 * (self._options.buffer_steps + 1))
            self._router.setsockopt(zmq.LINGER, 0)
            _encrypt(self._router, self._options.curve_key)
            self.replay = _bind(self._router, self._options.replay, "replay")
            self._serving = asyncio.create_task(self._serve_replay(self._router))

    def publish(self, time_s: float, events: Iterable[CacheEvent]) -> int:
        """Send one batch and give its number."""
        assert self._pub is not None, "open the publisher first"
        payload = self._wire.encode(time_s, events, self._rank)
        sequence = 0 if self.sequence is None else self.sequence + 1
        self._kept.append((sequence, payload))
        self._pub.send_multipart([self._topic, _number(sequence), payload])
        self.sequence = sequence
        return sequence

    async def close(self) -> None:
        """Close the sockets at once; what a subscriber has not fetched yet is lost to it."""
        if self._serving is not None:
            self._serving.cancel()
            await asyncio.gather(self._serving, return_exceptions=True)
        for socket in (self._pub, self._router):
            if socket is not None:
                socket.close(0)
        self._pub = self._router = self._serving = None

    async def _serve_replay(self, router: zmq.asyncio.Socket) -> None:
        while True:
            frames = await router.recv_multipart()
            if len(frames) != 3:
                logger.warning(
                    "replay request of %d frames not answered; send an empty frame and the first number", len(frames)
                )
                continue
            identity, _, start = frames
            await self._answer(router, identity, int.from_bytes(start, "big"))

    async def _answer(self, router: zmq.asyncio.Socket, identity: bytes, start: int) -> None:
        before = [identity, b""]
        topic = [self._topic] if self._wire.replay_topic else []
        no_topic = [b""] if self._wire.replay_topic else []
        for count, (sequence, payload) in enumerate(self._from(start)):
            await router.send_multipart([*before, *topic, _number(sequence), payload])
            if count % _REPLAY_SLICE == _REPLAY_SLICE - 1:
                await asyncio.sleep(0)
        await router.send_multipart([*before, *no_topic, _END, b""])

    def _from(self, start: int) -> list[tuple[int, bytes]]:
        """List the kept batches from `start` on; they may begin later, if the buffer no longer reaches back."""
        if not self._kept:
            return []
        return list(islice(self._kept, max(0, start - self._kept[0][0]), None))


def _number(sequence: int) -> bytes:
    return sequence.to_bytes(_SEQUENCE_BYTES, "big")


def _bind(socket: zmq.Socket[bytes] | zmq.asyncio.Socket, endpoint: str, what: str) -> str:
    _allow_ipv6(socket, endpoint)
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        raise ConfigError(
            f"{what} endpoint {endpoint} cannot be bound: {error.strerror}; choose a free port, or port 0"
        ) from error
    return socket.getsockopt_string(zmq.LAST_ENDPOINT)


def _connect(socket: zmq.Socket[bytes], endpoint: str) -> None:
    _allow_ipv6(socket, endpoint)
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise ConfigError(f"events endpoint {endpoint} cannot be connected to: {error.strerror}") from error


def _encrypt(socket: zmq.Socket[bytes] | zmq.asyncio.Socket, secret: bytes | None) -> None:
    """Let only those be heard who know the public half of the key."""
    if secret is not None:
        socket.setsockopt(zmq.CURVE_SERVER, 1)
        socket.setsockopt(zmq.CURVE_SECRETKEY, secret)


def _allow_ipv6(socket: zmq.Socket[bytes] | zmq.asyncio.Socket, endpoint: str) -> None:
    # Only where it is asked for: with it, an IPv4 wildcard would be reported as an IPv6 one.
    if "[" in endpoint:
        socket.setsockopt(zmq.IPV6, 1)
