"""Addresses of ranks: the base's port and the ones after it."""

from __future__ import annotations

import pytest

from kvsync.engine.endpoints import check_apart, rank_endpoint, rank_endpoints
from kvsync.errors import ConfigError


@pytest.mark.parametrize(
    ("base", "rank", "wanted"),
    [
        ("tcp://127.0.0.1:5557", 0, "tcp://127.0.0.1:5557"),
        ("tcp://127.0.0.1:5557", 3, "tcp://127.0.0.1:5560"),
        ("tcp://[::1]:5557", 1, "tcp://[::1]:5558"),
        ("tcp://*:5557", 2, "tcp://*:5559"),
        ("tcp://127.0.0.1:0", 5, "tcp://127.0.0.1:0"),
        ("inproc://events", 0, "inproc://events"),
        ("inproc://events", 2, "inproc://events_dp2"),
        ("ipc:///run/events", 0, "ipc:///run/events"),
    ],
)
def test_a_rank_is_its_number_of_ports_after_the_base(base: str, rank: int, wanted: str) -> None:
    """As engines number them; a free port stays a free port."""
    assert rank_endpoint(base, rank) == wanted


@pytest.mark.parametrize(
    ("base", "rank"),
    [
        ("127.0.0.1:5557", 0),
        ("tcp://", 0),
        ("tcp://127.0.0.1", 0),
        ("tcp://127.0.0.1:x", 0),
        ("tcp://:5557", 0),
        ("tcp://127.0.0.1:65536", 0),
        ("tcp://127.0.0.1:65535", 1),
        ("ipc:///run/events", 1),
        ("udp://127.0.0.1:5557", 0),
    ],
)
def test_what_is_no_address_is_named(base: str, rank: int) -> None:
    """The message shows the endpoint that was given."""
    with pytest.raises(ConfigError, match=base.split("://", maxsplit=1)[0]):
        rank_endpoint(base, rank)


def test_bases_too_close_for_the_ranks_are_refused() -> None:
    """Rank 1's events would take the port of rank 0's replay."""
    events, replays = rank_endpoints("tcp://127.0.0.1:5557", 2), rank_endpoints("tcp://127.0.0.1:5558", 2)
    with pytest.raises(ConfigError, match=r"5558 is wanted twice.*at least 2 apart"):
        check_apart(events, replays)


def test_free_ports_never_collide() -> None:
    """Port 0 is another port each time."""
    check_apart(("tcp://127.0.0.1:0",) * 2, ("tcp://127.0.0.1:0",) * 2)
