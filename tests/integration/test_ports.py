"""Ports that are held: nobody else is given them, and who is told of them may listen there."""

from __future__ import annotations

import socket

import pytest
from tests.integration.ports import free_ports

from kvsync.testing.ports import hold_port, port_of


def test_a_held_port_is_the_holders_to_give() -> None:
    """Who lets addresses be used again listens there, again and again; who asks for it otherwise is refused."""
    with hold_port("127.0.0.1") as held:
        address = ("127.0.0.1", port_of(held))
        for _ in range(2):
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection(address)
            with socket.create_server(address), socket.create_connection(address):
                pass
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(address)
        with pytest.raises(OSError, match="in use"):
            hold_port(*address)


def test_a_held_port_is_free_again_once_it_is_let_go() -> None:
    """As any socket's."""
    with hold_port("127.0.0.1") as held:
        port = port_of(held)
    hold_port("127.0.0.1", port).close()


def test_ports_in_a_row_are_held_each() -> None:
    """No two callers, of one process or of several, have one of them in common."""
    base = free_ports(3)
    for port in range(base, base + 3):
        with pytest.raises(OSError, match="in use"):
            hold_port("127.0.0.1", port)
