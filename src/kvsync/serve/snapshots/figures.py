"""
Metrics of snapshots: the one that is kept, and the one that the daemon began with.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from kvsync.serve.snapshots.inherited import Inherited
from kvsync.serve.snapshots.keeper import Keeper


def snapshot_figures(keeper: Keeper | None, inherited: Inherited) -> Iterator[Metric]:
    """Every family, also one without a sample."""
    made = CounterMetricFamily("kvsync_snapshots", "Snapshots by what became of them.", labels=["outcome"])
    last = None if keeper is None else keeper.last
    if keeper is not None:
        made.add_metric(["saved"], keeper.saved)
        made.add_metric(["failed"], keeper.failed)
    yield made
    yield _gauge("snapshot_taken_seconds", "When the last snapshot was taken.", None if last is None else last.taken)
    yield _gauge("snapshot_bytes", "Size of the last snapshot.", None if last is None else float(last.size))
    yield _gauge("snapshot_work_seconds", "What the last snapshot took.", None if last is None else last.seconds)
    loaded = GaugeMetricFamily("kvsync_loaded_engines", "Records that were loaded at start.", labels=["outcome"])
    loaded.add_metric(["resumed"], inherited.resumed)
    loaded.add_metric(["dropped"], inherited.dropped)
    loaded.add_metric(["waiting"], len(inherited.unclaimed))
    yield loaded


def _gauge(name: str, text: str, value: float | None) -> Metric:
    family = GaugeMetricFamily(f"kvsync_{name}", text)
    if value is not None:
        family.add_metric([], value)
    return family
