"""How long the stream's thread waits for more batches to come."""

from __future__ import annotations

import pytest

from kvsync.stream.options import SubscriberOptions
from kvsync.stream.subscriber import gather_s


@pytest.mark.parametrize(
    ("turns_per_s", "expected_s"), [(0.0, 0.0), (999.0, 0.0), (2_500.0, 0.004), (9_375.0, 0.015), (1e9, 0.05)]
)
def test_the_wait_grows_with_the_crowd(turns_per_s: float, expected_s: float) -> None:
    """A small fleet's batches never wait; those of a large one a little, and at most what the options say."""
    assert gather_s(turns_per_s, SubscriberOptions().gather_s) == pytest.approx(expected_s)


def test_it_can_be_switched_off() -> None:
    """At most nothing is nothing."""
    assert gather_s(1e9, 0.0) == 0.0
