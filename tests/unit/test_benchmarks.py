"""The benchmarks at a size that takes no time, so that they cannot rot: each checks its own answer."""

from __future__ import annotations

from typing import Any

import pytest
from tests.benchmarking import MODULES, classes, load, methods, run

# A socket, a process, a compiler, valgrind or large tokenizers: tests/integration/test_benchmarks.py runs these.
ELSEWHERE = {"bench_http", "bench_instructions", "bench_memory", "bench_readers", "bench_tokens", "bench_zmq"}

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


def test_every_target_names_a_benchmark() -> None:
    """No row of the table waits for a value that no benchmark gives."""
    for target in load("targets").TARGETS:
        module, kind, method = target.benchmark.split(".")
        benchmark = next(found for found in classes(module) if found.__name__ == kind)
        assert method in methods(benchmark), target.benchmark
        params = [
            values if isinstance(values, list | tuple) else [values] for values in getattr(benchmark, "params", ())
        ]
        assert [str(value) in map(str, values) for value, values in zip(target.params, params, strict=True)] == [
            True
        ] * len(params), target


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


def test_peers_ratios() -> None:
    """A ratio above one says that ours is better, whether more is better or less."""
    inside, report = load("peers.inside"), load("peers.report")
    store, miss = "store, 1 block an event", "a miss, a hash"
    laps = {
        "ours": [[inside.Figure(store, value, 0.5), inside.Figure(miss, 2.0)] for value in (1.0, 4.0, 40.0)],
        "dynamo": [[inside.Figure(store, 2.0, 1.0), inside.Figure(miss, 10.0)]],
    }
    rows = {row.row: row for row in report.rows(report.medians(laps))}
    assert (rows[store].ours, rows[store].ratio, rows[store].cpu_ratio) == (4.0, 2.0, 2.0)
    assert (rows[miss].ratio, rows[miss].cpu_ratio, rows[miss].plain) == (5.0, None, None)
    table = report.rendered(rows.values()).splitlines()
    assert [len(table), table[1].split()[-3:]] == [3, ["0.5", "1", "2"]]
