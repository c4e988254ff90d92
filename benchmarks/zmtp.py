"""
As much of ZeroMQ's protocol (ZMTP 3.0, no encryption) as a publisher of one subscriber speaks, as bytes.

With it an engine costs one system call a batch, where libzmq's own PUB takes a queue, two threads and several calls: a
thousand engines of `benchmarks.scale` would take more of a small machine than what is measured. What the subscriber
reads is the same, byte for byte.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

GREETING: Final = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
MORE: Final = 1
LONG: Final = 2
COMMAND: Final = 4
SHORT_MAX: Final = 255
SUBSCRIBES: Final = b"\x01"


def frame(flags: int, body: bytes) -> bytes:
    """One frame."""
    if len(body) <= SHORT_MAX:
        return bytes((flags, len(body))) + body
    return bytes((flags | LONG,)) + len(body).to_bytes(8, "big") + body


def message(parts: Sequence[bytes]) -> bytes:
    """A multipart message."""
    *first, last = parts
    return b"".join([*(frame(MORE, part) for part in first), frame(0, last)])


def command(name: bytes, body: bytes) -> bytes:
    """A word between the two ends."""
    return frame(COMMAND, bytes((len(name),)) + name + body)


def ready(kind: bytes) -> bytes:
    """What either end says of itself after the greetings."""
    return command(b"READY", b"\x0bSocket-Type" + len(kind).to_bytes(4, "big") + kind)


def take_frames(buffer: bytearray) -> Iterator[tuple[int, bytes]]:
    """Take the whole frames off the front of what came, with their flags."""
    while len(buffer) >= 2:
        size_end = 9 if buffer[0] & LONG else 2
        end = size_end + int.from_bytes(buffer[1:size_end], "big")
        if len(buffer) < max(end, size_end):
            return
        flags, body = buffer[0], bytes(buffer[size_end:end])
        del buffer[:end]
        yield flags, body


def pong(body: bytes) -> bytes | None:
    """The answer to a command that is a PING; None for any other."""
    ping = b"\x04PING"
    return command(b"PONG", body[len(ping) + 2 :]) if body.startswith(ping) else None
