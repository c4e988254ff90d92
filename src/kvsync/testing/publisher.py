"""
An engine's event sockets that do what a test says: a PUB, a replay ROUTER, and every way they can go wrong.

The publisher itself is honest unless told otherwise: numbers from 0, a bounded buffer, an answer for each request.
A test asks for trouble by name: a batch that reaches only the buffer, or nobody; an answer that stops half-way,
leaves numbers out, has the wrong shape, or never comes.

Two threads: the test's, which owns the PUB, and one that answers replays. `restart` and `close` join the latter.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

import zmq

from kvsync.testing.ports import hold_port, port_of

END = b"\xff" * 8
LOOPBACK = "tcp://127.0.0.1:*"
POLL_MS = 10
BIND_S = 60.0


class ScriptedPublisher:
    """
    One engine's events and replay sockets on loopback.

    `events` is an address to bind, or with `connect` one to connect to; `replay` may be None for an engine
    without the port. Free ports are found, and `events` and `replay` then say which; they are held until `close`,
    so that a restart finds them free.
    `topic_in_replay` chooses the newer form of an answer.

    What an answer does, to be changed at any time:

    silent            no answer at all
    answer_max        stop after so many batches, without an end marker
    ends              False leaves the end marker out
    left_out          numbers missing from every answer
    junk              multipart messages sent before the batches of an answer
    shift             added to the number asked for, as by an engine that reads the request wrong
    """

    def __init__(
        self,
        *,
        events: str = LOOPBACK,
        replay: str | None = LOOPBACK,
        connect: bool = False,
        topic: bytes = b"kv-events",
        topic_in_replay: bool = True,
        buffer_steps: int = 10_000,
    ) -> None:
        self.events = events
        self.replay = replay
        self.topic = topic
        self.number = -1
        self.asked: list[int] = []
        self.silent = False
        self.answer_max: int | None = None
        self.ends = True
        self.left_out: set[int] = set()
        self.junk: list[list[bytes]] = []
        self.shift = 0
        self._connect = connect
        self._topic_in_replay = topic_in_replay
        self._buffer: deque[tuple[int, bytes]] = deque(maxlen=buffer_steps)
        self._subscribers = 0
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._stopping = threading.Event()
        self._held: list[socket.socket] = []
        if not connect:
            self.events = self._hold(self.events)
        if self.replay is not None:
            self.replay = self._hold(self.replay)
        self._open()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ScriptedPublisher {self.events} number={self.number} kept={len(self._buffer)} asked={self.asked}>"

    # ------------------------------------------------------------------ batches

    def publish(self, payload: bytes, *, live: bool = True, keep: bool = True) -> int:
        """
        Give the batch the next number, send it and keep it; leave out either to lose it there.
        """
        self.number += 1
        if keep:
            self._buffer.append((self.number, payload))
        if live:
            self.send([self.topic, number_bytes(self.number), payload])
        return self.number

    def publish_all(self, payloads: Iterable[bytes], *, live: bool = True, keep: bool = True) -> None:
        """Publish one after the other."""
        for payload in payloads:
            self.publish(payload, live=live, keep=keep)

    def send(self, frames: list[bytes]) -> None:
        """Send any multipart message on the live socket."""
        self._pub.send_multipart(frames)

    def forget(self) -> None:
        """Empty the replay buffer."""
        self._buffer.clear()

    # ------------------------------------------------------------------ connections

    def wait_for_subscriber(self, timeout_s: float = 60.0) -> None:
        """Return once somebody is subscribed: what is published before that reaches nobody."""
        end = time.monotonic() + timeout_s
        while self._subscribers == 0 or self._pub.poll(0):
            if not self._pub.poll(max(0, round((end - time.monotonic()) * 1000))):
                raise TimeoutError(f"nobody subscribed to {self.events} within {timeout_s} s")
            self._subscribers += 1 if self._pub.recv()[:1] == b"\x01" else -1

    def restart(self, *, down: Iterable[None] = ()) -> None:
        """
        A new life on the same endpoints: numbers from 0, an empty buffer. `down` is iterated over while all is closed.
        """
        self.drop_connections(down=down, forget=True)

    def drop_connections(self, *, down: Iterable[None] = (), forget: bool = False) -> None:
        """Close the sockets and open them again, in the same life unless all is forgotten."""
        self._close_sockets()
        for _ in down:
            pass
        if forget:
            self.number = -1
            self._buffer.clear()
        self._open()

    def close(self) -> None:
        """Close everything; a second call does nothing."""
        if not self._context.closed:
            self._close_sockets()
            self._context.term()
            for held in self._held:
                held.close()

    # ------------------------------------------------------------------ sockets

    def _hold(self, endpoint: str) -> str:
        """The endpoint with a free port for `*`, which is ours until we are closed."""
        if not endpoint.endswith(":*"):
            return endpoint
        host = endpoint.removeprefix("tcp://").removesuffix(":*")
        self._held.append(hold_port(host.strip("[]")))
        return f"tcp://{host}:{port_of(self._held[-1])}"

    def _open(self) -> None:
        self._subscribers = 0
        self._stopping.clear()
        # XPUB is PUB that lets its owner see the subscriptions.
        self._pub = self._context.socket(zmq.XPUB)
        self._pub.setsockopt(zmq.LINGER, 0)
        self._pub.setsockopt(zmq.SNDHWM, 0)
        if self._connect:
            self._pub.setsockopt(zmq.RECONNECT_IVL, 50)
            self._pub.connect(self.events)
        else:
            self.events = _bind(self._pub, self.events)
        self._router: zmq.Socket[bytes] | None = None
        self._thread: threading.Thread | None = None
        if self.replay is not None:
            self._router = self._context.socket(zmq.ROUTER)
            self._router.setsockopt(zmq.LINGER, 0)
            self._router.setsockopt(zmq.SNDHWM, 0)
            self.replay = _bind(self._router, self.replay)
            self._thread = threading.Thread(target=self._serve, args=(self._router,), daemon=True)
            self._thread.start()

    def _close_sockets(self) -> None:
        self._stopping.set()
        if self._thread is not None:
            self._thread.join()
        if self._router is not None:
            self._router.close(0)
        self._pub.close(0)

    def _serve(self, router: zmq.Socket[bytes]) -> None:
        while not self._stopping.is_set():
            if not router.poll(POLL_MS):
                continue
            identity, *request = router.recv_multipart()
            if len(request) != 2 or request[0] != b"":
                continue
            start = int.from_bytes(request[1], "big")
            self.asked.append(start)
            if not self.silent:
                for frames in self._answer(start + self.shift):
                    router.send_multipart([identity, b"", *frames])

    def _answer(self, start: int) -> Iterator[list[bytes]]:
        yield from self.junk
        kept = [(number, payload) for number, payload in tuple(self._buffer) if number >= start]
        for count, (number, payload) in enumerate(kept):
            if self.answer_max is not None and count >= self.answer_max:
                return
            if number not in self.left_out:
                yield [*self._before(self.topic), number_bytes(number), payload]
        if self.ends:
            yield [*self._before(b""), END, b""]

    def _before(self, topic: bytes) -> list[bytes]:
        return [topic] if self._topic_in_replay else []


def number_bytes(number: int) -> bytes:
    """
    A sequence number as it stands on the wire.
    """
    return number.to_bytes(8, "big")


def _bind(sock: zmq.Socket[bytes], endpoint: str) -> str:
    """Bind, and wait for the port if the socket before us is still letting go of it."""
    end = time.monotonic() + BIND_S
    sock.setsockopt(zmq.IPV6, "[" in endpoint)
    while True:
        with contextlib.suppress(zmq.ZMQError):
            sock.bind(endpoint)
            return bytes(sock.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()
        if time.monotonic() > end:
            sock.close(0)
            raise TimeoutError(f"{endpoint} could not be bound within {BIND_S} s")
        time.sleep(0.01)
