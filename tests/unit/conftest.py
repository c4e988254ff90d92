"""What unit tests are held to: no sockets."""

from __future__ import annotations

import socket
import sys
from typing import Any, NoReturn

import pytest


@pytest.fixture(autouse=True)
def no_sockets(monkeypatch: pytest.MonkeyPatch) -> None:
    """A unit test that binds or connects fails; `integration` is the place for it."""

    def refuse(_socket: object, address: Any, *_: Any) -> NoReturn:
        pytest.fail(f"a unit test reached for the socket address {address!r}; move it to tests/integration")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    if "zmq" in sys.modules:  # its sockets are not Python's
        zmq = sys.modules["zmq"]
        monkeypatch.setattr(zmq.Socket, "bind", refuse)
        monkeypatch.setattr(zmq.Socket, "connect", refuse)
