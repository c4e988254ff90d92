"""
Ports for engines that a test starts, kills, and starts again where they were, in a row as engines have them.

Each is held from the moment it is found: neither a connection that anybody makes meanwhile nor another test beside this
one is given it, while whoever is told its number may listen there.
"""

from __future__ import annotations

import random
import socket
from collections import deque
from typing import Final

from kvsync.testing.ports import hold_port

FIRST: Final = 10_000
END: Final = 32_000
"""Below those that Linux gives out, where several in a row are free."""

HELD_MAX: Final = 100
"""Far more than a test asks for, and few of the descriptors that a process may have."""

_chance = random.SystemRandom()
_held: deque[socket.socket] = deque()


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody else has, nor gets while this test runs."""
    while len(_held) > HELD_MAX:
        _held.popleft().close()
    for _ in range(1_000):
        base = _chance.randrange(FIRST, END - count)
        if _hold(range(base, base + count)):
            return base
    raise RuntimeError(f"no {count} free ports in a row from {FIRST} to {END}")


def _hold(ports: range) -> bool:
    held: list[socket.socket] = []
    for port in ports:
        try:
            held.append(hold_port("127.0.0.1", port))
        except OSError:
            for one in held:
                one.close()
            return False
    _held.extend(held)
    return True
