"""
Metrics that are looked up at the moment of a scrape: pods, load, records, streams. All are listed in docs/metrics.md.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import attrgetter

from kvsync.index import LAG_BOUNDS_S
from kvsync.serve.exposition import Series, counter, counters, gauge, gauges, histogram, labels
from kvsync.serve.parts import Parts
from kvsync.serve.ports import MediumView, RecordView, StreamView
from kvsync.serve.readiness import coverage
from kvsync.serve.snapshots.figures import snapshot_figures
from kvsync.serve.views import load_of, record_of
from kvsync.types import Engine, Trust

LOADS = (
    ("waiting", "Requests sent that wait for their first token."),
    ("running", "Requests sent that are past their first token."),
    ("queued_tokens", "Prefill tokens sent that are not computed yet."),
)

STREAM_KINDS = ("gaps", "unfilled", "replays", "restarts", "rebuilds", "oversize", "reconnects", "index_errors")

INDEX = (
    ("bytes", "Memory that the index has allocated."),
    ("bytes_max", "The ceiling on it; 0 = none."),
    ("bytes_per_entry", "That memory by entry; 0 where there is none."),
    ("blocks", "Distinct blocks known."),
    ("entries", "Pairs of engine and block held, by medium and group."),
    ("engines", "Engines with a record."),
)

_turns = attrgetter(*STREAM_KINDS)
TRUSTS = {trust: tuple(int(trust is level) for level in Trust) for trust in Trust}

NOTHING = ""
"""A line that is none: a moment at which whoever writes the page may rest."""

Records = Sequence[tuple[str, RecordView]]
"""With the labels that say of which engine each is."""


def figures(parts: Parts) -> Iterator[str]:
    """Every family as lines, also one without a series."""
    ups = ((labels(pod=name), int(parts.health.is_up(name))) for name in tuple(parts.pods))
    yield from gauge("kvsync_pod_up", "1 while the pod gets requests.", ups)
    text = "Share of engines that are connected and trusted enough."
    yield from gauge("kvsync_coverage", text, [("", coverage(parts)["coverage"])])
    yield from _load_figures(parts)
    records = []
    for engine in parts.index.engines():
        record = record_of(parts, engine)
        if record is not None:
            records.append((_where(engine), record))
        yield NOTHING
    yield from _record_figures(records)
    yield from _stream_figures(parts.streams.status())
    yield from _index_figures(parts.index.stats())
    yield from snapshot_figures(parts.keeper, parts.inherited)


def _load_figures(parts: Parts) -> Iterator[str]:
    loads = [
        (_where(engine), load_of(parts, engine, pod)) for pod in tuple(parts.pods.values()) for engine in pod.engines
    ]
    for name, text in LOADS:
        yield from gauge(f"kvsync_engine_{name}", text, ((where, load[name]) for where, load in loads))


def _record_figures(records: Records) -> Iterator[str]:
    yield from gauges(
        "kvsync_engine_trust",
        "1 at the trust that the engine's record has, the worst over its media.",
        "trust",
        [level.value for level in Trust],
        ((where, TRUSTS[record.trust]) for where, record in records),
    )
    yield from _medium_figures([(where, *medium) for where, record in records for medium in record.media.items()])
    orphans = ((where, record.orphans) for where, record in records)
    yield from gauge("kvsync_engine_orphans", "Blocks whose predecessor is not known.", orphans)
    kinds = tuple(records[0][1].counters) if records else ()
    events = ((where, tuple(record.counters.values())) for where, record in records)
    yield from counters("kvsync_engine_events", "What became of events.", "kind", kinds, events)
    yield from histogram(
        "kvsync_event_lag_seconds",
        "From the time a batch is stamped with to when it was applied.",
        LAG_BOUNDS_S,
        ((where, record.lag.counts, record.lag.seconds) for where, record in records if record.lag.count),
    )
    ahead = ((where, record.lag.ahead) for where, record in records)
    yield from counter("kvsync_event_lag_ahead", "Batches stamped in our future.", ahead)


def _medium_figures(media: Sequence[tuple[str, str, MediumView]]) -> Iterator[str]:
    yield from gauge(
        "kvsync_medium_trust",
        "1 at the trust that the record has on a medium, with what last lowered it.",
        (
            (f"{where},{labels(medium=name, trust=medium.trust.value, reason=medium.reason)}", 1)
            for where, name, medium in media
        ),
    )
    named = [(f"{where},{labels(medium=name)}", medium) for where, name, medium in media]
    yield from gauge(
        "kvsync_medium_trust_since_seconds",
        "When trust on a medium became what it is, as Unix time.",
        ((where, medium.since) for where, medium in named),
    )
    yield from gauge("kvsync_engine_entries", "Blocks held.", ((where, medium.entries) for where, medium in named))
    doubtful = ((where, medium.doubtful) for where, medium in named)
    yield from gauge("kvsync_engine_doubtful", "Of those, blocks that may be gone.", doubtful)


def _stream_figures(status: Mapping[Engine, StreamView]) -> Iterator[str]:
    views = [(_where(engine), view) for engine, view in status.items()]
    connected = ((where, int(view.connected)) for where, view in views)
    yield from gauge("kvsync_engine_connected", "1 while the event connection stands.", connected)
    waiting = ((where, view.waiting) for where, view in views)
    yield from gauge("kvsync_frames_waiting", "Frames kept above a hole.", waiting)
    received = ((where, view.received) for where, view in views)
    yield from counter("kvsync_frames_received", "Frames that came, live and replayed.", received)
    frames = (series for where, view in views for series in _outcomes(where, view))
    yield from counter("kvsync_frames", "Frames by what became of them.", frames)
    turns = ((where, _turns(view)) for where, view in views)
    yield from counters("kvsync_stream", "What happened to an engine's stream.", "kind", STREAM_KINDS, turns)


def _outcomes(where: str, view: StreamView) -> Iterator[Series]:
    yield f'{where},outcome="applied"', view.applied_frames
    yield f'{where},outcome="duplicate"', view.duplicate
    for reason, count in view.dropped.items():
        yield f'{where},outcome="dropped_{reason}"', count


def _index_figures(stats: Mapping[str, float]) -> Iterator[str]:
    for name, text in INDEX:
        yield from gauge(f"kvsync_index_{name}", text, [("", stats[name])])
    text = "Entries given up to keep below a ceiling."
    yield from counter("kvsync_index_evicted", text, [("", stats["evicted"])])


def _where(engine: Engine) -> str:
    return labels(pod=engine.pod, rank=str(engine.rank))
