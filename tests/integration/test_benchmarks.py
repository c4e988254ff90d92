"""Benchmarks that need a socket, a process, a compiler, valgrind or large tokenizers, at sizes that take no time."""

from __future__ import annotations

from typing import Any

import pytest
from tests.benchmarking import classes, load, run

CLASSES = [
    pytest.param(kind, id=f"{name}.{kind.__name__}")
    for name in ("bench_http", "bench_instructions", "bench_memory", "bench_readers", "bench_tokens", "bench_zmq")
    for kind in classes(name)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_benchmark(kind: type[Any]) -> None:
    """A benchmark runs and finds its answer right, and everything it tracks is above zero."""
    try:
        returned = run(kind)
    except NotImplementedError as missing:
        pytest.skip(str(missing))
    # A benchmark that asv times returns nothing, a writer that is not there writes nothing, nothing may remain, and the
    # resident set of a process moves by whole pages for reasons of its own: at this size it says nothing.
    tracked = {name: value for name, value in returned.items() if value is not None}
    positive = {name: value for name, value in tracked.items() if "written" not in name and "rss" not in name}
    least = 0 if kind.__name__ == "Remains" else 1e-12
    assert all(value >= least for value in positive.values()), tracked


@pytest.mark.parametrize("name", ["ours", "lists", "plain"])
def test_side_of_the_peers(name: str) -> None:
    """Each side that needs no foreign package goes through every row, and its answers are right."""
    inside = load("peers.inside")
    figures = {figure.row: figure.value for figure in inside.measure(inside.SIDES[name]())}
    assert len(figures) == 12
    # A resident set of so little is what the system makes of it.
    assert all(value > 0 for row, value in figures.items() if row != "memory by RSS"), figures


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
