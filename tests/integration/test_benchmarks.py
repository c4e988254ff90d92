"""The benchmarks that need a socket, a compiler or valgrind, at a size that takes no time."""

from __future__ import annotations

from typing import Any

import pytest
from tests.benchmarking import classes, run

CLASSES = [
    pytest.param(kind, id=f"{name}.{kind.__name__}")
    for name in ("bench_instructions", "bench_zmq")
    for kind in classes(name)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_benchmark(kind: type[Any]) -> None:
    """A benchmark runs and finds its answer right, and everything it tracks is above zero."""
    try:
        returned = run(kind)
    except NotImplementedError as missing:
        pytest.skip(str(missing))
    assert all(value > 0 for value in returned.values()), returned
