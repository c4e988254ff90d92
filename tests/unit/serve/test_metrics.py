"""The page of metrics, written in slices."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest
from prometheus_client import generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from kvsync.serve import metrics
from kvsync.serve.metrics import FleetCollector, Metrics

ENGINES = 400
CREATED = re.compile(rb"^\S*_created\S* .*$", re.MULTILINE)
"""When a counter was made: the clock of the test's own process."""


def _families() -> Iterator[Metric]:
    lag = HistogramMetricFamily("kvsync_lag", "How late.", labels=["pod", "rank"])
    frames = CounterMetricFamily("kvsync_frames", "Frames # of all.", labels=["pod"])
    for number in range(ENGINES):
        lag.add_metric([f"p{number}", '"\n#\\'], [("0.1", 1.0), ("1.0", 2.0), ("+Inf", 3.0)], 1.5)
        frames.add_metric([f"p{number}"], number)
    yield from (lag, frames, GaugeMetricFamily("kvsync_none", "Nobody.", labels=["pod"]))


def _made() -> Metrics:
    made = Metrics()
    made.registry.register(FleetCollector(_families))
    made.requests.labels("/v1/route", "200").inc()
    made.pick_seconds.observe(0.001)
    return made


def test_slices_are_one_page() -> None:
    """What is written piece by piece is what would be written in one go, headers once."""
    made = _made()
    whole, page = generate_latest(made.registry), asyncio.run(made.page())
    assert CREATED.sub(b"", page) == CREATED.sub(b"", whole)
    assert len(page.splitlines()) > ENGINES * 6


def test_parts_of_a_family_are_one() -> None:
    """A family that comes in parts of its name has its headers once."""

    def parts() -> Iterator[Metric]:
        for number in range(3):
            part = CounterMetricFamily("kvsync_frames", "Frames.", labels=["pod"])
            part.add_metric([f"p{number}"], number)
            yield part

    made = Metrics()
    made.registry.register(FleetCollector(parts))
    lines = [line for line in asyncio.run(made.page()).decode().splitlines() if "kvsync_frames" in line]
    assert lines == [
        "# HELP kvsync_frames_total Frames.",
        "# TYPE kvsync_frames_total counter",
        *(f'kvsync_frames_total{{pod="p{number}"}} {number}.0' for number in range(3)),
    ]


def test_others_have_their_turn_between_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    """A page of very many lines holds up nobody for longer than a slice."""
    monkeypatch.setattr(metrics, "SLICE_S", 0.0)
    monkeypatch.setattr(metrics, "REST", 0.0)
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def story() -> None:
        beside = asyncio.create_task(others())
        await _made().page()
        beside.cancel()

    asyncio.run(story())
    assert turns >= ENGINES * 6 // metrics.PIECE_SAMPLES
