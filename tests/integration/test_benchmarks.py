"""The benchmarks that need a socket, a compiler, valgrind or large tokenizers, at a size that takes no time."""

from __future__ import annotations

from typing import Any

import pytest
from tests.benchmarking import classes, load, run

CLASSES = [
    pytest.param(kind, id=f"{name}.{kind.__name__}")
    for name in ("bench_http", "bench_instructions", "bench_readers", "bench_tokens", "bench_zmq")
    for kind in classes(name)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_benchmark(kind: type[Any]) -> None:
    """A benchmark runs and finds its answer right, and everything it tracks is above zero."""
    try:
        returned = run(kind)
    except NotImplementedError as missing:
        pytest.skip(str(missing))
    # A benchmark that asv times returns nothing, and a writer that is not there writes nothing.
    tracked = {name: value for name, value in returned.items() if value is not None and "written" not in name}
    assert all(value > 0 for value in tracked.values()), tracked


def test_our_side_of_the_peers() -> None:
    """Our daemon goes through every row of the peers' comparison, and its answers are right."""
    outside, services = load("peers.outside"), load("peers.services")
    rows = [figure.row for figure in outside.measure(services.OurService())]
    assert [row.partition(",")[0] for row in rows] == ["zmq -> visible"] * 2 + ["HTTP query"] * 4


@pytest.mark.parametrize("daemon", [False, True], ids=["library", "daemon"])
def test_scale(daemon: bool) -> None:
    """A small fleet's batches all arrive, in this process and in a daemon's, and its cost and lag are told."""
    figures = load("scale").run(4, 20.0, 0.5, daemon=daemon)
    assert (figures["sent"], figures["received"], figures["applied"], figures["gaps"]) == (40, 40, 40, 0)
    assert 0 < figures["lag_p50_s_max"] <= figures["lag_p99_s_max"] < float("inf")
    assert figures["rss_mib"] > 0 if daemon else figures["cpu_cores"] >= 0
