"""
Pods behind a name (`--pods-dns`), such as a headless service: one pod for each address that the name has.

    name=engines,http=http://engines.prod.svc:8000,events=tcp://engines.prod.svc:5557,model=m

is a pattern: wherever the host of `http` stands, an address is put in its place, and the pod is called
`engines/ADDRESS`. A lookup that fails leaves the pods as they were, with a finding. A headless service lists ready pods
only, unless it publishes addresses that are not ready too.
"""

from __future__ import annotations

import asyncio
import socket
from dataclasses import replace
from ipaddress import ip_address
from typing import Final
from urllib.parse import urlsplit

from kvsync.errors import ConfigError
from kvsync.fleet.finding import Finding
from kvsync.fleet.live import LivePods
from kvsync.fleet.pod import Pod

SOURCE: Final = "dns"
EVERY_S: Final = 5.0
LOOKUP_S: Final = 5.0


class DnsPods(LivePods):
    """The pods that a name stands for; `ConfigError` for a pattern that has an address for a name."""

    def __init__(self, pattern: Pod, every_s: float = EVERY_S) -> None:
        super().__init__(every_s)
        self._pattern = pattern
        self._host = host_of(pattern)

    async def _look(self) -> None:
        try:
            async with asyncio.timeout(LOOKUP_S):
                found = await asyncio.get_running_loop().getaddrinfo(self._host, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError, TimeoutError) as error:
            why = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
            text = f"cannot be looked up ({why}); check the name. The pods that were found before stay"
            self._set(self._pods.values(), [Finding(SOURCE, self._host, "lookup", text)])
            return
        addresses = sorted({str(address[4][0]) for address in found})
        self._set([pod_at(self._pattern, self._host, address) for address in addresses], [])


def host_of(pattern: Pod) -> str:
    """The name that a pattern looks up."""
    host = urlsplit(pattern.http).hostname or ""
    try:
        ip_address(host)
    except ValueError:
        pass
    else:
        raise ConfigError(f"--pods-dns: {host} is an address already; give a name to look up, or use --pod")
    for key, endpoint in (("events", pattern.events), ("replay", pattern.replay)):
        if endpoint is not None and not pattern.bind and host not in endpoint.lower():
            raise ConfigError(f"--pods-dns: {key}={endpoint} does not hold the name {host}; all pods would share it")
    return host


def pod_at(pattern: Pod, host: str, address: str) -> Pod:
    """The pod that the pattern describes at an address."""
    there = f"[{address}]" if ":" in address else address

    def put(endpoint: str | None) -> str | None:
        return None if endpoint is None else endpoint.lower().replace(host, there)

    return replace(
        pattern,
        name=f"{pattern.name}/{address}",
        http=put(pattern.http) or "",
        events=pattern.events if pattern.bind else put(pattern.events),
        replay=put(pattern.replay),
    )
