"""
The daemon as JSON and as metrics: pods, engines, coverage, an engine's blocks. Looks, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from kvsync.fleet import Pod
from kvsync.routing import Candidate, Estimate
from kvsync.serve.parts import Parts
from kvsync.serve.ports import RecordView, StreamView
from kvsync.types import Engine, EngineHash, Trust

WARM_UP_S = 5.0
"""How long the daemon may call itself not ready because of engines that cannot be reached or are being replayed."""


def scored(estimate: Estimate) -> dict[str, Any]:
    """One candidate of `/v1/score`: the match itself, and the score, which is expected seconds to the first token."""
    candidate: Candidate = estimate.candidate
    return {
        "pod": candidate.engine.pod,
        "rank": candidate.engine.rank,
        "matched_tokens": candidate.match.tokens,
        "matched_blocks": candidate.match.blocks,
        "by_medium": dict(candidate.match.by_medium),
        "trust": candidate.match.trust.value,
        "certain": candidate.match.certain,
        "score": round(estimate.seconds, 6),
    }


def pods(parts: Parts) -> list[dict[str, Any]]:
    """Every pod: its addresses, whether it gets requests, and what it has to do."""
    return [_pod(parts, pod) for pod in parts.pods.values()]


def engines(parts: Parts) -> list[dict[str, Any]]:
    """Every engine that we listen to or have heard of: its record and its stream."""
    status = parts.streams.status()
    known = set(parts.index.engines())
    return [_engine(parts, engine, status.get(engine), known) for engine in sorted(known | set(status))]


def coverage(parts: Parts) -> dict[str, Any]:
    """
    How much of the fleet is seen as it is now: `coverage` is the share of engines that are connected and exact.

    `trust` counts connected engines only: the record of one that is gone may be exact, and says nothing of now.
    """
    expected = [engine for pod in parts.pods.values() if pod.events is not None for engine in pod.engines]
    status = parts.streams.status()
    connected = [engine for engine in expected if _is_connected(status.get(engine))]
    trust = {trust.value: 0 for trust in Trust}
    for engine in connected:
        trust[parts.index.trust(engine).value] += 1
    up = sum(parts.health.is_up(name) for name in parts.pods)
    return {
        "pods": {"known": len(parts.pods), "up": up},
        "engines": {"expected": len(expected), "connected": len(connected), "trust": trust},
        "coverage": trust[Trust.EXACT.value] / len(expected) if expected else 1.0,
    }


def warming(parts: Parts) -> list[str]:
    """
    The engines whose past is still being read, in the first seconds: until then picks would miss what they hold.
    """
    if parts.clock() - parts.started > WARM_UP_S:
        return []
    status = parts.streams.status()
    return [str(engine) for engine, view in status.items() if view.state in ("connecting", "replaying")]


def blocks(parts: Parts, engine: Engine) -> dict[str, Any]:
    """
    All that an engine's record holds, to compare with the engine itself; `KeyError` for one that nobody knows.

    The sequence number is read before and after: equal, it belongs to the listing.
    """
    pod = parts.pods.get(engine.pod)
    if engine not in parts.index.engines() and pod is not None and engine in pod.engines:
        trust = Trust.UNKNOWN.value
        return {"pod": engine.pod, "rank": engine.rank, "sequence": None, "trust": trust, "media": {}}
    while True:
        sequence = parts.index.record(engine).sequence
        held = parts.index.engine_hashes(engine)
        record = parts.index.record(engine)
        if record.sequence == sequence:
            break
    media = {
        medium: {str(group): {hash_text(h): copies for h, copies in hashes.items()} for group, hashes in groups.items()}
        for medium, groups in held.items()
    }
    return {"pod": engine.pod, "rank": engine.rank, "sequence": sequence, "trust": record.trust.value, "media": media}


def hash_text(engine_hash: EngineHash) -> str:
    """An engine hash as text: decimal, or lower-case hex where it is bytes."""
    return str(engine_hash) if isinstance(engine_hash, int) else engine_hash.hex()


def stats(parts: Parts) -> dict[str, Any]:
    """Figures of the whole daemon."""
    return {
        "index": dict(parts.index.stats()),
        "policy": parts.router.default,
        "policies": list(parts.router.policies),
        "policy_failures": parts.router.policy_failures,
        "prefill_rates": parts.router.rates(),
        **coverage(parts),
    }


def metrics(parts: Parts) -> Iterator[Metric]:
    """What is looked up at the moment of a scrape."""
    yield _gauge("pod_up", "1 while the pod gets requests.", ["pod"], _ups(parts))
    loads = {engine: _load(parts, engine, pod) for pod in parts.pods.values() for engine in pod.engines}
    for name, text in (
        ("waiting", "Requests sent that wait for their first token."),
        ("running", "Requests sent that are past their first token."),
        ("queued_tokens", "Prefill tokens sent that are not computed yet."),
    ):
        values: dict[tuple[str, ...], float] = {
            (engine.pod, str(engine.rank)): float(load[name]) for engine, load in loads.items()
        }
        yield _gauge(f"engine_{name}", text, ["pod", "rank"], values)
    yield from _record_metrics(parts)
    yield from _stream_metrics(parts)


def _record_metrics(parts: Parts) -> Iterator[Metric]:
    trust: dict[tuple[str, ...], float] = {}
    entries: dict[tuple[str, ...], float] = {}
    events = CounterMetricFamily(
        "kvsync_engine_events", "What happened to an engine's record.", labels=["pod", "rank", "kind"]
    )
    for engine in parts.index.engines():
        record = _record(parts, engine)
        if record is None:
            continue
        where = (engine.pod, str(engine.rank))
        trust |= {(*where, level.value): float(level is record.trust) for level in Trust}
        entries |= {(*where, medium): float(view.entries) for medium, view in record.media.items()}
        for kind, count in record.counters.items():
            events.add_metric([*where, kind], count)
    yield _gauge("engine_trust", "1 at the trust that the engine's record has.", ["pod", "rank", "trust"], trust)
    yield _gauge("engine_entries", "Blocks held, by medium.", ["pod", "rank", "medium"], entries)
    yield events


def _stream_metrics(parts: Parts) -> Iterator[Metric]:
    status = parts.streams.status()
    connected: dict[tuple[str, ...], float] = {
        (engine.pod, str(engine.rank)): float(view.connected) for engine, view in status.items()
    }
    yield _gauge("engine_connected", "1 while the event connection stands.", ["pod", "rank"], connected)
    frames = CounterMetricFamily("kvsync_frames", "Frames by what became of them.", labels=["pod", "rank", "outcome"])
    turns = CounterMetricFamily("kvsync_stream", "What happened to an engine's stream.", labels=["pod", "rank", "kind"])
    for engine, view in status.items():
        where = [engine.pod, str(engine.rank)]
        frames.add_metric([*where, "applied"], view.applied_frames)
        frames.add_metric([*where, "duplicate"], view.duplicate)
        for reason, count in view.dropped.items():
            frames.add_metric([*where, f"dropped_{reason}"], count)
        for kind in ("gaps", "replays", "restarts", "oversize", "reconnects"):
            turns.add_metric([*where, kind], getattr(view, kind))
    yield frames
    yield turns


def _gauge(name: str, text: str, labels: list[str], values: Mapping[tuple[str, ...], float]) -> Metric:
    family = GaugeMetricFamily(f"kvsync_{name}", text, labels=labels)
    for where, value in values.items():
        family.add_metric(list(where), value)
    return family


def _ups(parts: Parts) -> dict[tuple[str, ...], float]:
    return {(name,): float(parts.health.is_up(name)) for name in parts.pods}


def _pod(parts: Parts, pod: Pod) -> dict[str, Any]:
    state = parts.health.state(pod.name)
    return {
        "pod": pod.name,
        "http": pod.http,
        "model": pod.model,
        "loras": list(pod.loras),
        "events": pod.events,
        "replay": pod.replay,
        "up": state.up,
        "reason": state.reason,
        "since_s": round(parts.clock() - state.since, 3),
        "ranks": [{"rank": engine.rank, **_load(parts, engine, pod)} for engine in pod.engines],
    }


def _load(parts: Parts, engine: Engine, pod: Pod) -> dict[str, Any]:
    rate = parts.router.rate(pod.model).tokens_per_second
    load = parts.router.loads.load(engine, parts.clock(), rate=rate)
    return {"waiting": load.waiting, "running": load.running, "queued_tokens": round(load.queued_tokens, 1)}


def _engine(parts: Parts, engine: Engine, view: StreamView | None, known: set[Engine]) -> dict[str, Any]:
    record = _record(parts, engine) if engine in known else None
    return {
        "pod": engine.pod,
        "rank": engine.rank,
        "connected": _is_connected(view),
        **(_no_record(parts, engine) if record is None else _record_view(record)),
        "stream": None if view is None else _stream_view(view),
    }


def _is_connected(view: StreamView | None) -> bool:
    return view is not None and view.connected


def _record(parts: Parts, engine: Engine) -> RecordView | None:
    try:
        return parts.index.record(engine)
    except KeyError:  # it went away since it was listed
        return None


def _no_record(parts: Parts, engine: Engine) -> dict[str, Any]:
    pod = parts.pods.get(engine.pod)
    return {
        "model": pod.model if pod else None,
        "trust": Trust.UNKNOWN.value,
        "blocks": 0,
        "media": {},
        "sequence": None,
    }


def _record_view(record: RecordView) -> dict[str, Any]:
    media = {
        name: {"trust": view.trust.value, "reason": view.reason, "entries": view.entries, "doubtful": view.doubtful}
        for name, view in record.media.items()
    }
    return {
        "model": record.model,
        "trust": record.trust.value,
        "blocks": sum(view.entries for view in record.media.values()),
        "media": media,
        "sequence": record.sequence,
        "lives": record.lives,
        "block_size": record.block_size,
        "dialect": record.dialect,
        "orphans": record.orphans,
        "counters": dict(record.counters),
    }


def _stream_view(view: StreamView) -> dict[str, Any]:
    return {
        "connected": view.connected,
        "state": view.state,
        "applied": view.applied,
        "live_last": view.live_last,
        "received": view.received,
        "applied_frames": view.applied_frames,
        "duplicate": view.duplicate,
        "dropped": dict(view.dropped),
        "waiting": view.waiting,
        "gaps": view.gaps,
        "replays": view.replays,
        "restarts": view.restarts,
        "oversize": view.oversize,
        "reconnects": view.reconnects,
        "last_event_age_s": view.last_event_age_s,
        "error": view.error,
        "replay_available": view.replay_available,
    }
