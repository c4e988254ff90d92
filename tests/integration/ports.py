"""
Ports that a test may let go of and take again: a restarted engine comes back where it was.

Those that the system gives out for port 0 are also given to every connection that anybody makes meanwhile, here or in
another test beside this one. So these come from below that range, and only tests of ours look for them there.
"""

from __future__ import annotations

import random
import socket
from contextlib import ExitStack
from typing import Final

FIRST: Final = 10_000
END: Final = 32_000
"""Linux gives out ports from 32,768 on."""

_chance = random.SystemRandom()


def free_ports(count: int) -> int:
    """The first of so many ports in a row that nobody has."""
    for _ in range(1_000):
        base = _chance.randrange(FIRST, END - count)
        if _are_free(range(base, base + count)):
            return base
    raise RuntimeError(f"no {count} free ports in a row from {FIRST} to {END}")


def _are_free(ports: range) -> bool:
    with ExitStack() as stack:
        for port in ports:
            try:
                stack.enter_context(socket.socket()).bind(("127.0.0.1", port))
            except OSError:
                return False
    return True
