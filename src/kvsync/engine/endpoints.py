"""
Where the sockets of each rank are: a base address, and rank r on the r-th port after it.
"""

from __future__ import annotations

from kvsync.errors import ConfigError

_PORT_MAX = 65_535


def rank_endpoint(base: str, rank: int) -> str:
    """
    Give the address of one rank: the last port of `base` plus `rank`; port 0 stays 0, a free one each.

    As engines have it: `inproc` gets a suffix, `ipc` serves rank 0 alone. Raises `ConfigError` where a
    rank can have no address.
    """
    transport, separator, rest = base.partition("://")
    if not separator or not rest:
        raise ConfigError(f"endpoint {base!r} has no transport; write tcp://HOST:PORT")
    if transport == "inproc":
        return f"{base}_dp{rank}" if rank else base
    if transport == "ipc":
        if rank:
            raise ConfigError(f"endpoint {base!r} has no address for rank {rank}; several ranks need tcp://HOST:PORT")
        return base
    if transport != "tcp":
        raise ConfigError(f"endpoint {base!r} has transport {transport!r}; use tcp, ipc or inproc")
    host, separator, port = rest.rpartition(":")
    if not separator or not host or not port.isdecimal() or int(port) > _PORT_MAX:
        raise ConfigError(f"endpoint {base!r} has no port; write tcp://HOST:PORT, port 0 for a free one")
    if port == "0":
        return base
    if int(port) + rank > _PORT_MAX:
        raise ConfigError(f"endpoint {base!r} leaves no port for rank {rank}; choose a lower base")
    return f"tcp://{host}:{int(port) + rank}"


def rank_endpoints(base: str, ranks: int) -> tuple[str, ...]:
    """Give the addresses of all ranks, in order."""
    return tuple(rank_endpoint(base, rank) for rank in range(ranks))


def check_apart(events: tuple[str, ...], replays: tuple[str, ...]) -> None:
    """Raise `ConfigError` if two sockets would share a port, as close bases and several ranks make them."""
    fixed = [endpoint for endpoint in (*events, *replays) if not endpoint.endswith(":0")]
    for endpoint in fixed:
        if fixed.count(endpoint) > 1:
            raise ConfigError(
                f"endpoint {endpoint} is wanted twice: each rank takes the next port, so choose the bases of "
                f"events and replay at least {len(events)} apart"
            )
