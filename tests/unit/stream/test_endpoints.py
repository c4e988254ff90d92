"""Endpoints are checked before a socket sees them, and those of the ranks are derived as engines do."""

from __future__ import annotations

import pytest

from kvsync.errors import ConfigError
from kvsync.stream.endpoints import Source, check_endpoint, check_source, endpoint_of_rank, is_ipv6, sources_of_pod
from kvsync.types import Engine


@pytest.mark.parametrize(
    ("base", "rank", "expected"),
    [
        ("tcp://10.0.0.1:5557", 0, "tcp://10.0.0.1:5557"),
        ("tcp://10.0.0.1:5557", 3, "tcp://10.0.0.1:5560"),
        ("tcp://[::1]:5557", 2, "tcp://[::1]:5559"),
        ("tcp://::1:5557", 1, "tcp://::1:5558"),
        ("tcp://*:5557", 1, "tcp://*:5558"),
        ("inproc://events", 2, "inproc://events_dp2"),
        ("ipc:///run/events", 0, "ipc:///run/events"),
    ],
)
def test_a_rank_counts_from_the_base(base: str, rank: int, expected: str) -> None:
    """The last number of the endpoint is the port of rank 0."""
    assert endpoint_of_rank(base, rank) == expected


@pytest.mark.parametrize(
    ("base", "rank", "why"),
    [
        ("ipc:///run/events", 1, "serves rank 0 only"),
        ("tcp://host:65535", 1, "no port for rank 1"),
        ("tcp://host:*", 1, "leaves the port open"),
        ("tcp://host", 1, "no host and port"),
    ],
)
def test_a_rank_without_an_endpoint_is_refused(base: str, rank: int, why: str) -> None:
    """The message says what is in the way."""
    with pytest.raises(ConfigError, match=why):
        endpoint_of_rank(base, rank)


@pytest.mark.parametrize(
    "endpoint", ["tcp://127.0.0.1:5557", "tcp://pod-7.ns.svc:5557", "tcp://[fe80::1%eth0]:5557", "ipc:///run/events"]
)
def test_usable_endpoints_pass(endpoint: str) -> None:
    """Addresses, names, IPv6 in brackets and Unix sockets."""
    check_endpoint(endpoint)


@pytest.mark.parametrize(
    ("endpoint", "why"),
    [
        ("", "write tcp://"),
        ("127.0.0.1:5557", "write tcp://"),
        ("http://127.0.0.1:5557", "write tcp://"),
        ("tcp://", "write tcp://"),
        ("tcp://host\n:1", "write tcp://"),
        ("tcp://127.0.0.1", "no host and port"),
        ("tcp://:5557", "no host and port"),
        ("tcp://host:5557/path", "no host and port"),
        ("tcp://a host:5557", "no host and port"),
        ("tcp://host:", "give a number from 1 to 65535"),
        ("tcp://host:70000", "give a number from 1 to 65535"),
        ("tcp://host:-1", "give a number from 1 to 65535"),
        ("tcp://host:٣", "give a number from 1 to 65535"),
        ("tcp://host:" + "9" * 5000, "give a number from 1 to 65535"),
        ("tcp://host:0", "leaves the port open"),
        ("tcp://host:*", "leaves the port open"),
        ("tcp://*:5557", "names no host to connect to"),
        ("tcp://0.0.0.0:5557", "names no host to connect to"),
        ("tcp://[::1:5557", "one bracket"),
        ("ipc://" + "x" * 200, "over 107 bytes"),
        ("inproc://events", "inside the engine's own process"),
    ],
)
def test_unusable_endpoints_are_named_with_the_remedy(endpoint: str, why: str) -> None:
    """The operator reads the endpoint and what to write instead."""
    with pytest.raises(ConfigError, match=why):
        check_endpoint(endpoint)


def test_a_bound_endpoint_may_be_a_wildcard() -> None:
    """With bind=1 we listen, on every address if told so."""
    check_endpoint("tcp://*:5557", bind=True)


def test_only_ipv6_hosts_need_ipv6() -> None:
    """A name may be either; libzmq is told only where it must know."""
    assert is_ipv6("tcp://[::1]:5557")
    assert is_ipv6("tcp://::1:5557")
    assert not is_ipv6("tcp://127.0.0.1:5557")
    assert not is_ipv6("ipc:///run/a:b:c")


def test_a_pod_has_one_source_a_rank() -> None:
    """Events and replay count up together, the rest is shared."""
    sources = sources_of_pod("ns/pod", "m", "tcp://h:5557", "tcp://h:5657", ranks=2, topic="kv")
    assert sources == [
        Source(Engine("ns/pod", 0), "m", "tcp://h:5557", "tcp://h:5657", "kv"),
        Source(Engine("ns/pod", 1), "m", "tcp://h:5558", "tcp://h:5658", "kv"),
    ]


def test_bases_too_close_together_are_refused() -> None:
    """vLLM's own example ports meet as soon as there are two ranks."""
    with pytest.raises(ConfigError, match="choose bases at least 2 ports apart"):
        sources_of_pod("pod", "m", "tcp://h:5557", "tcp://h:5558", ranks=2)


def test_a_pod_has_a_rank() -> None:
    """A pod without ranks publishes nothing."""
    with pytest.raises(ConfigError, match="0 ranks"):
        sources_of_pod("pod", "m", "tcp://h:5557", ranks=0)


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (Source(Engine(""), "m", "tcp://h:1"), "names no pod"),
        (Source(Engine("pod"), "", "tcp://h:1"), "names no model"),
        (Source(Engine("pod"), "m", "tcp://h:1", "tcp://h"), "no host and port"),
    ],
)
def test_a_source_must_be_whole(source: Source, why: str) -> None:
    """A source names pod, model and usable endpoints."""
    with pytest.raises(ConfigError, match=why):
        check_source(source)
