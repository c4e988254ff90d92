"""
Many engines in one process, for `benchmarks.scale`: each with a port of its own, all sending at one even pace.

    python -m benchmarks.scale_publish ENGINES RATE SECONDS

A line of JSON on standard output lists the endpoints; a line on standard input lets it send; at the end a line says how
many batches each engine sent, and how late the last was sent. The end of standard input ends it.
"""

from __future__ import annotations

import json
import select
import socket
import struct
import sys
import time
from typing import Final

from benchmarks import zmtp
from kvsync.stream.files import make_room
from kvsync.testing.publisher import number_bytes
from kvsync.testing.wire import Removed, Stored, encode_batch

BLOCKS: Final = 2
HELD: Final = 100
BLOCK_SIZE: Final = 16
TS_AT: Final = 1
"""The byte of a batch that begins its time: after the array's header."""

SLICES: Final = 20
"""Groups of engines that send one after the other within an interval."""

READ_BYTES: Final = 4096


def payloads(count: int) -> list[bytes]:
    """What an engine sends: two blocks stored a batch, and two removed once it holds its fill."""
    made = []
    for number in range(count):
        first = number * BLOCKS + 1
        tokens = tuple((first * BLOCK_SIZE + n) % 100_000 for n in range(BLOCKS * BLOCK_SIZE))
        hashes = tuple(range(first, first + BLOCKS))
        stored = Stored(hashes=hashes, parent=first - 1 or None, tokens=tokens, block_size=BLOCK_SIZE)
        gone = Removed(tuple(h - HELD for h in hashes))
        made.append(encode_batch([stored, gone] if first > HELD else [stored]))
    return made


class Engines:
    """Ports, and the subscriber that connects to each."""

    def __init__(self, count: int) -> None:
        make_room(count)
        self._listeners = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
        self._subscribers: list[socket.socket] = []
        self._came: dict[int, tuple[socket.socket, bytearray]] = {}
        self._poll = select.epoll()
        self.endpoints = [f"tcp://127.0.0.1:{listener.getsockname()[1]}" for listener in self._listeners]

    def accept(self) -> None:
        """Wait until each port has a subscriber that asked for its events."""
        for listener in self._listeners:
            self._poll.register(listener, select.EPOLLIN)
        by_fd = {listener.fileno(): listener for listener in self._listeners}
        waiting = set(by_fd)
        while waiting:
            for fd, _ in self._poll.poll():
                if fd in by_fd:
                    self._welcome(by_fd[fd])
                    waiting.discard(fd)
                else:
                    self._hear(fd)

    def hear(self) -> None:
        """Answer the heartbeats that came."""
        for fd, _ in self._poll.poll(0):
            self._hear(fd)

    def send(self, first: int, end: int, data: bytes) -> None:
        """Send to the subscribers of some engines."""
        for subscriber in self._subscribers[first:end]:
            subscriber.sendall(data)

    def _welcome(self, listener: socket.socket) -> None:
        subscriber, _ = listener.accept()
        subscriber.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        subscriber.sendall(zmtp.GREETING + zmtp.ready(b"PUB"))
        heard = bytearray()
        while len(heard) < len(zmtp.GREETING):
            heard += subscriber.recv(READ_BYTES)
        del heard[: len(zmtp.GREETING)]
        while not any(not flags and body.startswith(zmtp.SUBSCRIBES) for flags, body in zmtp.take_frames(heard)):
            heard += subscriber.recv(READ_BYTES)
        self._poll.register(subscriber, select.EPOLLIN)
        self._came[subscriber.fileno()] = subscriber, heard
        self._subscribers.append(subscriber)

    def _hear(self, fd: int) -> None:
        subscriber, heard = self._came[fd]
        try:
            data = subscriber.recv(READ_BYTES)
        except ConnectionResetError:
            data = b""
        if not data:
            self._poll.unregister(fd)
        heard += data
        for flags, body in zmtp.take_frames(heard):
            answer = zmtp.pong(body) if flags & zmtp.COMMAND else None
            if answer is not None:
                subscriber.sendall(answer)


def publish(engines: int, rate: float, seconds: float) -> None:
    """Listen, wait for the word, and send."""
    count = round(rate * seconds)
    made = payloads(count)
    fleet = Engines(engines)
    print(json.dumps(fleet.endpoints), flush=True)
    fleet.accept()
    while not said():
        fleet.hear()
    sys.stdin.readline()
    began, late, cpu = time.perf_counter(), 0.0, time.process_time()
    share = max(1, engines // SLICES)
    for number in range(count):
        payload = made[number]
        head = zmtp.message((b"", number_bytes(number), payload))[: -len(payload)]
        for first in range(0, engines, share):
            pause = began + (number + first / engines) / rate - time.perf_counter()
            if pause > 0:
                time.sleep(pause)
            late = max(late, -pause)
            stamp = struct.pack(">d", time.time())
            fleet.send(first, first + share, head + payload[: TS_AT + 1] + stamp + payload[TS_AT + 9 :])
        fleet.hear()
    said_of_it = {"batches": count, "late_s_max": late, "cpu_s": round(time.process_time() - cpu, 2)}
    print(json.dumps(said_of_it), flush=True)
    while not said():
        fleet.hear()


def said() -> bool:
    """Whether standard input has a line or its end, waited for a moment."""
    readable, _, _ = select.select([sys.stdin], [], [], 0.1)
    return bool(readable)


if __name__ == "__main__":
    publish(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
