"""
Why nothing is heard of an engine, in a sentence for whoever waits for it.

The subscriber tries for ever and cannot tell a refused port from an unknown host: libzmq says the same of both. A
plain connection can, and is tried once the listening is over.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from kvsync.types import Engine

if TYPE_CHECKING:
    from kvsync.stream.endpoints import Source
    from kvsync.stream.status import StreamStatus

REACH_S = 2.0


class Troubles:
    """
    Says on stderr what troubles a stream, once for each new trouble.
    """

    def __init__(self, command: str) -> None:
        self._command = command
        self._told: dict[Engine, str | None] = {}

    def tell(self, status: Mapping[Engine, StreamStatus]) -> None:
        """Print what has not been said; a trouble that went away and came back is said again."""
        for engine, stream in status.items():
            if stream.error is not None and stream.error != self._told.get(engine):
                print(f"kvsync {self._command}: {stream.error}", file=sys.stderr, flush=True)
            self._told[engine] = stream.error


def why_silent(sources: Iterable[Source], status: Mapping[Engine, StreamStatus], messages: int) -> str:
    """
    Why none of the sources gave a single event batch, and what to do; `messages` is how many others came.
    """
    streams = [(source, status[source.engine]) for source in sources]
    # Of several ranks the one in trouble tells more than the one that is idle.
    source, stream = next((pair for pair in streams if pair[1].error is not None), streams[0])
    if messages:
        return (
            f"what answers at {source.events} is no event publisher: of {messages:,}"
            f" message{'' if messages == 1 else 's'} none is an event batch; give the engine's events port, which is"
            " neither its HTTP port nor its replay port"
        )
    if stream.connected:
        about = f"topic {source.topic!r}" if source.topic else "it"
        return (
            f"nothing was heard from {source.events}: it is connected, and {about} was silent; an idle engine"
            " publishes nothing, so send it a request, or listen longer"
            f"{', or without --topic' if source.topic else ''}"
        )
    if source.bind:
        return (
            f"nothing was heard at {source.events}: {stream.error}"
            if stream.error
            else f"nothing was heard at {source.events}: no engine has connected; check the address that it was given"
        )
    trouble = unreachable(source.events)
    if trouble is not None:
        return f"nothing was heard from {source.events}: {trouble}"
    return (
        f"what answers at {source.events} is no event publisher: it does not speak ZeroMQ's protocol to a subscriber;"
        " give the engine's events port, which is neither its HTTP port nor its replay port"
    )


def unreachable(endpoint: str) -> str | None:
    """Why no connection can be made, and what to do; None if one can."""
    scheme, _, address = endpoint.partition("://")
    host, _, port = address.rpartition(":")
    try:
        if scheme == "ipc":
            with socket.socket(socket.AF_UNIX) as plain:
                plain.settimeout(REACH_S)
                plain.connect(address)
        else:
            socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_S).close()
    except (socket.gaierror, UnicodeError):
        return f"no host has the name {host}; check it"
    except ConnectionRefusedError:
        return "the connection is refused; check the port, and that the engine runs and publishes events"
    except OSError as error:
        return f"no connection can be made ({error.strerror or error}); check the address"
    return None
