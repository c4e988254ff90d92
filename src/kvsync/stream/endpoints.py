"""
Where an engine publishes: endpoint strings, checked before a socket sees them, and those of each rank.

Rank r of a pod publishes on the port r above the pod's, for events and for replay alike; over `inproc` its
endpoint ends in `_dp<r>`; an `ipc` path serves rank 0 only. That is how engines themselves derive them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from kvsync.errors import ConfigError
from kvsync.types import Engine

PORT_MAX: Final = 65_535
IPC_PATH_BYTES_MAX: Final = 107
"""What a Unix socket address has room for, less its end."""

TCP: Final = "tcp"
IPC: Final = "ipc"
INPROC: Final = "inproc"

WILDCARD_HOSTS = frozenset({"*", "0.0.0.0", "::", "[::]"})


@dataclass(frozen=True, slots=True)
class Source:
    """
    Where one engine publishes and what it serves.

    With `bind` the engine's event socket connects and ours binds to `events`; replay is always connected to.
    `topic` is a prefix: empty takes everything.
    """

    engine: Engine
    model: str
    events: str
    replay: str | None = None
    topic: str = ""
    bind: bool = False


def sources_of_pod(
    pod: str,
    model: str,
    events: str,
    replay: str | None = None,
    ranks: int = 1,
    topic: str = "",
    bind: bool = False,
) -> list[Source]:
    """
    The sources of all ranks of a pod.

    Raises `ConfigError` for an endpoint that cannot be used, and where the ports of two ranks meet.
    """
    if ranks < 1:
        raise ConfigError(f"pod {pod} has {ranks} ranks: give 1 or more")
    sources = [
        Source(
            Engine(pod, rank),
            model,
            endpoint_of_rank(events, rank),
            None if replay is None else endpoint_of_rank(replay, rank),
            topic,
            bind,
        )
        for rank in range(ranks)
    ]
    _check_apart(pod, sources)
    for source in sources:
        check_source(source)
    return sources


def check_source(source: Source) -> None:
    """
    Raise `ConfigError` for a source that no socket could be opened for.
    """
    if not source.engine.pod:
        raise ConfigError(f"the source of {source.events!r} names no pod: give it a name")
    if not source.model:
        raise ConfigError(f"engine {source.engine} names no model: give the name that its requests use")
    check_endpoint(source.events, bind=source.bind)
    if source.replay is not None:
        check_endpoint(source.replay)


def check_endpoint(endpoint: str, *, bind: bool = False) -> None:
    """
    Raise `ConfigError` unless a socket can connect to the endpoint, or bind to it.
    """
    scheme, address = _split(endpoint)
    if scheme == INPROC:
        raise ConfigError(f"endpoint {endpoint!r} is inside the engine's own process: let it publish on tcp or ipc")
    if scheme == IPC:
        if len(address.encode()) > IPC_PATH_BYTES_MAX:
            raise ConfigError(f"endpoint {endpoint!r} has a path over {IPC_PATH_BYTES_MAX} bytes: use a shorter one")
        return
    host, port = _host_and_port(endpoint, address)
    if port == 0:
        raise ConfigError(f"endpoint {endpoint!r} leaves the port open: give the port the engine uses")
    if not bind and host in WILDCARD_HOSTS:
        raise ConfigError(f"endpoint {endpoint!r} names no host to connect to: give the pod's address, or bind=1")


def endpoint_of_rank(base: str, rank: int) -> str:
    """
    The endpoint of a rank, as an engine derives it from the one it was configured with.
    """
    if rank == 0:
        return base
    scheme, address = _split(base)
    if scheme == INPROC:
        return f"{base}_dp{rank}"
    if scheme == IPC:
        raise ConfigError(f"endpoint {base!r} serves rank 0 only: several ranks need tcp")
    _, port = _host_and_port(base, address)
    if port == 0:
        raise ConfigError(f"endpoint {base!r} leaves the port open: ranks need a port to count from")
    if port + rank > PORT_MAX:
        raise ConfigError(f"endpoint {base!r} has no port for rank {rank}: choose a base of {PORT_MAX - rank} or less")
    return f"{base.rpartition(':')[0]}:{port + rank}"


def is_ipv6(endpoint: str) -> bool:
    """
    Whether the host is written as an IPv6 address.
    """
    scheme, address = _split(endpoint)
    return scheme == TCP and ":" in address.rpartition(":")[0]


def _split(endpoint: str) -> tuple[str, str]:
    scheme, separator, address = endpoint.partition("://")
    if not separator or scheme not in (TCP, IPC, INPROC) or not address or not endpoint.isprintable():
        raise ConfigError(f"endpoint {endpoint!r} cannot be used: write tcp://HOST:PORT or ipc://PATH")
    return scheme, address


def _host_and_port(endpoint: str, address: str) -> tuple[str, int]:
    host, colon, port = address.rpartition(":")
    if not colon or not host or any(character.isspace() or character == "/" for character in address):
        raise ConfigError(f"endpoint {endpoint!r} has no host and port: write tcp://HOST:PORT")
    if host.startswith("[") != host.endswith("]"):
        raise ConfigError(f"endpoint {endpoint!r} has one bracket: write tcp://[ADDRESS]:PORT for IPv6")
    if port == "*":
        return host, 0
    if not (port.isascii() and port.isdigit()) or len(port) > len(str(PORT_MAX)) or int(port) > PORT_MAX:
        raise ConfigError(f"endpoint {endpoint!r} has port {port!r}: give a number from 1 to {PORT_MAX}")
    return host, int(port)


def _check_apart(pod: str, sources: list[Source]) -> None:
    events = {source.events: source.engine.rank for source in sources}
    for source in sources:
        if source.replay in events:
            raise ConfigError(
                f"pod {pod}: {source.replay} is the replay endpoint of rank {source.engine.rank} and the events"
                f" endpoint of rank {events[source.replay]}; choose bases at least {len(sources)} ports apart"
            )
