"""The benchmarks at a size that takes no time, so that they cannot rot: each checks its own answer."""

from __future__ import annotations

from typing import Any

import pytest
from tests.benchmarking import MODULES, classes, load, methods, run

# A socket, a compiler and valgrind: tests/integration/test_benchmarks.py runs these.
ELSEWHERE = {"bench_instructions", "bench_zmq"}

CLASSES = [
    pytest.param(kind, id=f"{name}.{kind.__name__}")
    for name in MODULES
    if name not in ELSEWHERE
    for kind in classes(name)
]


def test_every_module_has_benchmarks() -> None:
    """No module of the suite is left without a benchmark."""
    assert MODULES
    assert all(classes(name) for name in MODULES)


@pytest.mark.parametrize("kind", CLASSES)
def test_benchmark(kind: type[Any]) -> None:
    """A benchmark runs, finds its answer right, and what it tracks is no negative number."""
    # The resident set of a process moves by whole pages for reasons of its own: at this size it says nothing.
    tracked = {name: value for name, value in run(kind).items() if name.startswith("track_") and "rss" not in name}
    assert all(value >= 0 for value in tracked.values()), tracked


def test_wrong_answer_fails() -> None:
    """A benchmark whose answer is wrong fails, however fast it was."""
    checks = load("checks")
    with pytest.raises(checks.WrongAnswerError, match="blocks is 3, expected 4"):
        checks.expect("blocks", 3, 4)


def test_tracked_values_have_units() -> None:
    """Whoever looks at a tracked figure is told what it counts."""
    for name in MODULES:
        for kind in classes(name):
            for method in methods(kind):
                if method.startswith("track_"):
                    assert hasattr(getattr(kind, method), "unit") or hasattr(kind, "unit"), f"{name}.{kind}.{method}"
