"""
Many engines in one process, for `benchmarks.scale`: each with a PUB socket, all sending at one even pace.

    python -m benchmarks.scale_publish ENGINES RATE SECONDS

A line of JSON on standard output lists the endpoints; a line on standard input lets it send; at the end a line says how
many batches each engine sent, and how late the last was sent. The end of standard input ends it.
"""

from __future__ import annotations

import json
import struct
import sys
import time
from typing import Final

import zmq

from kvsync.testing.publisher import number_bytes
from kvsync.testing.wire import Removed, Stored, encode_batch

BLOCKS: Final = 2
HELD: Final = 100
BLOCK_SIZE: Final = 16
TS_AT: Final = 1
"""The byte of a batch that begins its time: after the array's header."""

SLICES: Final = 20


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


def publish(engines: int, rate: float, seconds: float) -> None:
    """Bind, wait for the word, and send."""
    count = round(rate * seconds)
    made = payloads(count)
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    context.set(zmq.MAX_SOCKETS, engines + 10)
    sockets, endpoints = [], []
    for _ in range(engines):
        socket = context.socket(zmq.PUB)
        socket.setsockopt(zmq.SNDHWM, 0)
        socket.setsockopt(zmq.LINGER, 0)
        socket.bind("tcp://127.0.0.1:*")
        sockets.append(socket)
        endpoints.append(bytes(socket.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode())
    print(json.dumps(endpoints), flush=True)
    sys.stdin.readline()
    began, late = time.perf_counter(), 0.0
    share = max(1, engines // SLICES)
    for number in range(count):
        head, payload = number_bytes(number), made[number]
        for first in range(0, engines, share):
            due = began + (number + first / engines) / rate
            pause = due - time.perf_counter()
            if pause > 0:
                time.sleep(pause)
            late = max(late, -pause)
            stamped = payload[: TS_AT + 1] + struct.pack(">d", time.time()) + payload[TS_AT + 9 :]
            for socket in sockets[first : first + share]:
                socket.send_multipart((b"", head, stamped), copy=True)
    print(json.dumps({"batches": count, "late_s_max": late}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    publish(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
