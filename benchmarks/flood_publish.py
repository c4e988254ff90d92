"""
An engine gone mad, for `benchmarks.flood`: it publishes nonsense without end, as fast as it can.

    python -m benchmarks.flood_publish KIND

A line of JSON on standard output says where. It floods from a line on standard input to the next one.
"""

from __future__ import annotations

import json
import random
import select
import sys
from collections.abc import Callable
from typing import Final

import zmq

from kvsync.testing.publisher import number_bytes
from kvsync.testing.wire import Removed, Stored, encode_batch

SIZE: Final = 16
MADE: Final = 400
"""Frames made beforehand and sent in turn; more blocks than the daemon keeps of one engine are not needed."""

BETWEEN_LOOKS: Final = 256


def blocks(chance: random.Random, count: int, *, parent: int | None = None) -> bytes:
    """New blocks in a chain, and the removal of one that never was."""
    tokens = tuple(chance.randrange(2**31) for _ in range(count * SIZE))
    hashes = tuple(chance.getrandbits(64) for _ in range(count))
    return encode_batch([Stored(hashes, parent, tokens, SIZE), Removed((chance.getrandbits(64),))])


KINDS: Final[dict[str, Callable[[random.Random], bytes]]] = {
    "blocks": lambda chance: blocks(chance, 64),
    "orphans": lambda chance: blocks(chance, 64, parent=chance.getrandbits(64)),
    "small": lambda chance: blocks(chance, 1),
    "large": lambda chance: blocks(chance, 16_384),
    "junk": lambda chance: chance.randbytes(4_000),
}
MADE_OF_LARGE: Final = 8


def main() -> None:
    """Flood when told to."""
    kind = sys.argv[1]
    chance = random.Random(1)
    payloads = [KINDS[kind](chance) for _ in range(MADE_OF_LARGE if kind == "large" else MADE)]
    with zmq.Context() as context, context.socket(zmq.PUB) as pub:
        pub.setsockopt(zmq.LINGER, 0)
        pub.setsockopt(zmq.SNDHWM, 1_000)
        port = pub.bind_to_random_port("tcp://127.0.0.1")
        print(json.dumps({"events": f"tcp://127.0.0.1:{port}"}), flush=True)
        number = 0
        while sys.stdin.readline():
            while not select.select([sys.stdin], [], [], 0)[0]:
                for _ in range(BETWEEN_LOOKS if kind != "large" else 1):
                    pub.send_multipart([b"kv-events", number_bytes(number), payloads[number % len(payloads)]])
                    number += 1
            sys.stdin.readline()
            print(json.dumps({"sent": number}), flush=True)


if __name__ == "__main__":
    main()
