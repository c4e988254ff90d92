"""
A port that stays one's own while nobody listens there: a server that is closed and opened again is where it was.

Else whoever asks for any free port in that moment, in another test beside this one, may be given just this one. Linux
only: elsewhere an address that one socket has is no other's.
"""

from __future__ import annotations

import socket


def hold_port(host: str, port: int = 0) -> socket.socket:
    """
    Hold a port, any free one for 0, until the socket is closed; `OSError` if somebody has it.

    Nobody is given it. Who names it and lets addresses be used again, as servers do (libzmq, asyncio), may listen
    there; one at a time, and connections are refused meanwhile.
    """
    held = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        held.bind((host, port))
    except OSError:
        held.close()
        raise
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # only now: we ourselves take no port that is held
    return held


def port_of(held: socket.socket) -> int:
    """Which port it is."""
    return int(held.getsockname()[1])
