"""
Metrics that are looked up at the moment of a scrape: pods, load, records, streams. All are listed in docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from kvsync.index import LAG_BOUNDS_S
from kvsync.serve.parts import Parts
from kvsync.serve.ports import LagView, RecordView, StreamView
from kvsync.serve.readiness import coverage
from kvsync.serve.snapshots.figures import snapshot_figures
from kvsync.serve.views import load_of, record_of
from kvsync.types import Engine, Trust

ENGINE = ("pod", "rank")

PART_ENGINES = 50

LOADS = (
    ("waiting", "Requests sent that wait for their first token."),
    ("running", "Requests sent that are past their first token."),
    ("queued_tokens", "Prefill tokens sent that are not computed yet."),
)

STREAM_KINDS = ("gaps", "unfilled", "replays", "restarts", "rebuilds", "oversize", "reconnects", "index_errors")

Labels = tuple[str, ...]


def figures(parts: Parts) -> Iterator[Metric]:
    """Every family, also one without a sample; a long one comes in parts of its name."""
    yield _gauge("pod_up", "1 while the pod gets requests.", ["pod"], _ups(parts))
    yield _gauge("coverage", "Share of engines that are connected and trusted enough.", [], _coverage(parts))
    yield from _load_figures(parts)
    yield from _record_figures([r for e in parts.index.engines() if (r := record_of(parts, e)) is not None])
    yield from _stream_figures(parts.streams.status())
    yield from _index_figures(parts.index.stats())
    yield from snapshot_figures(parts.keeper, parts.inherited)


def _load_figures(parts: Parts) -> Iterator[Metric]:
    loads = {engine: load_of(parts, engine, pod) for pod in parts.pods.values() for engine in pod.engines}
    for name, text in LOADS:
        yield _gauge(f"engine_{name}", text, ENGINE, {_where(e): float(load[name]) for e, load in loads.items()})


def _record_figures(records: Sequence[RecordView]) -> Iterator[Metric]:
    yield _gauge(
        "engine_trust",
        "1 at the trust that the engine's record has, the worst over its media.",
        (*ENGINE, "trust"),
        {(*_where(r.engine), level.value): float(level is r.trust) for r in records for level in Trust},
    )
    yield _gauge(
        "medium_trust",
        "1 at the trust that the record has on a medium, with what last lowered it.",
        (*ENGINE, "medium", "trust", "reason"),
        {(*_where(r.engine), name, m.trust.value, m.reason): 1.0 for r in records for name, m in r.media.items()},
    )
    yield _gauge(
        "medium_trust_since_seconds",
        "When trust on a medium became what it is, as Unix time.",
        (*ENGINE, "medium"),
        {(*_where(r.engine), name): m.since for r in records for name, m in r.media.items()},
    )
    for count, text in (("entries", "Blocks held."), ("doubtful", "Of those, blocks that may be gone.")):
        values = {(*_where(r.engine), n): float(getattr(m, count)) for r in records for n, m in r.media.items()}
        yield _gauge(f"engine_{count}", text, (*ENGINE, "medium"), values)
    orphans = {_where(record.engine): float(record.orphans) for record in records}
    yield _gauge("engine_orphans", "Blocks whose predecessor is not known.", ENGINE, orphans)
    for part in _parts(records):
        yield _event_figures(part)
    for part in _parts(records):
        yield _lag_figures(part)
    ahead = CounterMetricFamily("kvsync_event_lag_ahead", "Batches stamped in our future.", labels=ENGINE)
    for record in records:
        ahead.add_metric(_where(record.engine), record.lag.ahead)
    yield ahead


def _parts(records: Sequence[RecordView]) -> Iterator[Sequence[RecordView]]:
    """A few engines at a time, for families of many samples an engine; one empty part where there is none."""
    for at in range(0, max(1, len(records)), PART_ENGINES):
        yield records[at : at + PART_ENGINES]


def _event_figures(records: Sequence[RecordView]) -> Metric:
    events = CounterMetricFamily("kvsync_engine_events", "What became of events.", labels=[*ENGINE, "kind"])
    for record in records:
        where = _where(record.engine)
        for kind, number in record.counters.items():
            events.add_metric([*where, kind], number)
    return events


def _lag_figures(records: Sequence[RecordView]) -> Metric:
    lag = HistogramMetricFamily(
        "kvsync_event_lag_seconds", "From the time a batch is stamped with to when it was applied.", labels=ENGINE
    )
    for record in records:
        if record.lag.count:
            lag.add_metric(_where(record.engine), _buckets(record.lag), record.lag.seconds)
    return lag


def _buckets(lag: LagView) -> list[tuple[str, float]]:
    bounds = [*map(str, LAG_BOUNDS_S), "+Inf"]
    return [(bound, float(count)) for bound, count in zip(bounds, accumulate(lag.counts), strict=True)]


def _stream_figures(status: Mapping[Engine, StreamView]) -> Iterator[Metric]:
    yield _gauge(
        "engine_connected",
        "1 while the event connection stands.",
        ENGINE,
        {_where(engine): float(view.connected) for engine, view in status.items()},
    )
    yield _gauge(
        "frames_waiting", "Frames kept above a hole.", ENGINE, {_where(e): float(v.waiting) for e, v in status.items()}
    )
    received = CounterMetricFamily("kvsync_frames_received", "Frames that came, live and replayed.", labels=ENGINE)
    frames = CounterMetricFamily("kvsync_frames", "Frames by what became of them.", labels=[*ENGINE, "outcome"])
    turns = CounterMetricFamily("kvsync_stream", "What happened to an engine's stream.", labels=[*ENGINE, "kind"])
    for engine, view in status.items():
        where = _where(engine)
        received.add_metric(where, view.received)
        frames.add_metric([*where, "applied"], view.applied_frames)
        frames.add_metric([*where, "duplicate"], view.duplicate)
        for reason, count in view.dropped.items():
            frames.add_metric([*where, f"dropped_{reason}"], count)
        for kind in STREAM_KINDS:
            turns.add_metric([*where, kind], getattr(view, kind))
    yield from (received, frames, turns)


def _index_figures(stats: Mapping[str, float]) -> Iterator[Metric]:
    for name, text in (
        ("bytes", "Memory that the index has allocated."),
        ("bytes_max", "The ceiling on it; 0 = none."),
        ("bytes_per_entry", "That memory by entry; 0 where there is none."),
        ("blocks", "Distinct blocks known."),
        ("entries", "Pairs of engine and block held, by medium and group."),
        ("engines", "Engines with a record."),
    ):
        yield _gauge(f"index_{name}", text, [], {(): float(stats[name])})
    evicted = CounterMetricFamily("kvsync_index_evicted", "Entries given up to keep below a ceiling.", labels=[])
    evicted.add_metric([], stats["evicted"])
    yield evicted


def _gauge(name: str, text: str, labels: Sequence[str], values: Mapping[Labels, float]) -> Metric:
    family = GaugeMetricFamily(f"kvsync_{name}", text, labels=labels)
    for where, value in values.items():
        family.add_metric(list(where), value)
    return family


def _where(engine: Engine) -> Labels:
    return (engine.pod, str(engine.rank))


def _ups(parts: Parts) -> dict[Labels, float]:
    return {(name,): float(parts.health.is_up(name)) for name in parts.pods}


def _coverage(parts: Parts) -> dict[Labels, float]:
    return {(): coverage(parts)["coverage"]}
