"""Pods behind a name; the lookup is made up."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from kvsync.errors import ConfigError
from kvsync.fleet import DnsPods, Pod, parse_pod
from kvsync.fleet.dns import host_of

PATTERN = parse_pod(
    "name=e,http=http://Engines.prod:8000,events=tcp://engines.prod:5557,replay=tcp://engines.prod:5558,model=m"
)


def after(*answers: Sequence[str] | OSError, pattern: Pod = PATTERN) -> DnsPods:
    """The source after these answers of the resolver."""

    async def story() -> DnsPods:
        source, left = DnsPods(pattern), list(answers)

        async def resolve(host: str, port: Any, **_: Any) -> list[Any]:
            assert (host, port) == ("engines.prod", None)
            answer = left.pop(0)
            if isinstance(answer, OSError):
                raise answer
            return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in answer]

        asyncio.get_running_loop().getaddrinfo = resolve  # type: ignore[method-assign, assignment]
        for _ in answers:
            await source._look()
        return source

    return asyncio.run(story())


def test_each_address_is_a_pod() -> None:
    """The address stands wherever the name stood, in brackets where it is IPv6; doubles are one."""
    source = after(["10.0.0.2", "fd00::1", "10.0.0.2"])
    assert source.current() == {
        "e/10.0.0.2": Pod("e/10.0.0.2", "http://10.0.0.2:8000", "m", "tcp://10.0.0.2:5557", "tcp://10.0.0.2:5558"),
        "e/fd00::1": Pod("e/fd00::1", "http://[fd00::1]:8000", "m", "tcp://[fd00::1]:5557", "tcp://[fd00::1]:5558"),
    }


def test_addresses_come_and_go() -> None:
    """Each lookup counts as it is."""
    assert list(after(["10.0.0.1", "10.0.0.2"], ["10.0.0.3", "10.0.0.2"]).current()) == ["e/10.0.0.2", "e/10.0.0.3"]


def test_a_failed_lookup_keeps_the_pods() -> None:
    """With a finding, until one succeeds."""
    source = after(["10.0.0.1"], socket.gaierror(-2, "Name or service not known"))
    assert list(source.current()) == ["e/10.0.0.1"]
    assert "Name or service not known" in source.findings()[0].text
    assert not after(socket.gaierror(-2, "?"), ["10.0.0.1"]).findings()


def test_a_pattern_needs_a_name() -> None:
    """An address needs no lookup, and events of another host would be one stream for all."""
    with pytest.raises(ConfigError, match="address already"):
        DnsPods(parse_pod("name=e,http=http://10.0.0.1:8000,model=m"))
    with pytest.raises(ConfigError, match="does not hold the name"):
        host_of(parse_pod("name=e,http=http://x.y:8000,events=tcp://other:5557,model=m"))
