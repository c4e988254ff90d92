"""
Metrics of snapshots: the one that is kept, and the one that the daemon began with.
"""

from __future__ import annotations

from collections.abc import Iterator

from kvsync.serve.exposition import Series, counter, gauge
from kvsync.serve.snapshots.inherited import Inherited
from kvsync.serve.snapshots.keeper import Keeper


def snapshot_figures(keeper: Keeper | None, inherited: Inherited) -> Iterator[str]:
    """Every family as lines, also one without a series."""
    made, last = [], None
    if keeper is not None:
        made, last = [('outcome="saved"', keeper.saved), ('outcome="failed"', keeper.failed)], keeper.last
    yield from counter("kvsync_snapshots", "Snapshots by what became of them.", made)
    taken, size, work = ([], [], []) if last is None else (_one(last.taken), _one(last.size), _one(last.seconds))
    yield from gauge("kvsync_snapshot_taken_seconds", "When the last snapshot was taken.", taken)
    yield from gauge("kvsync_snapshot_bytes", "Size of the last snapshot.", size)
    yield from gauge("kvsync_snapshot_work_seconds", "What the last snapshot took.", work)
    loaded = [
        ('outcome="resumed"', inherited.resumed),
        ('outcome="dropped"', inherited.dropped),
        ('outcome="waiting"', len(inherited.unclaimed)),
    ]
    yield from gauge("kvsync_loaded_engines", "Records that were loaded at start.", loaded)


def _one(value: float) -> list[Series]:
    return [("", value)]
