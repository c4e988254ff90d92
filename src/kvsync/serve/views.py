"""
The daemon as JSON: pods, engines, an engine's blocks. Looks, and changes nothing.
"""

from __future__ import annotations

import time
from typing import Any

from kvsync.fleet import Pod
from kvsync.routing import Candidate, Estimate
from kvsync.serve.parts import Parts
from kvsync.serve.ports import LagView, MediumView, RecordView, StreamView
from kvsync.serve.readiness import coverage, is_connected
from kvsync.types import Engine, EngineHash, Trust


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
        "trust_by_medium": {medium: trust.value for medium, trust in candidate.match.trust_by_medium.items()},
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


def findings(parts: Parts) -> list[dict[str, Any]]:
    """What is wrong with pods and with where they come from; empty where all is well."""
    return [
        {"source": finding.source, "about": finding.about, "reason": finding.reason, "text": finding.text}
        for finding in parts.roster.findings()
    ]


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
        "snapshots": None if parts.keeper is None else parts.keeper.view(),
        "loaded": parts.inherited.view(),
        "tokenizers": parts.tokenizing.stats(),
        **coverage(parts),
    }


def _pod(parts: Parts, pod: Pod) -> dict[str, Any]:
    state = parts.health.state(pod.name)
    return {
        "pod": pod.name,
        "http": pod.http,
        "model": pod.model or None,
        "loras": list(parts.picker.loras(pod)),
        "tokenizer": dict(pod.tokenizer),
        "events": pod.events,
        "replay": pod.replay,
        "ready": pod.ready,
        "up": state.up,
        "reason": state.reason,
        "signals": parts.signals(pod),
        "since_s": round(parts.clock() - state.since, 3),
        "ranks": [{"rank": engine.rank, **load_of(parts, engine, pod)} for engine in pod.engines],
    }


def load_of(parts: Parts, engine: Engine, pod: Pod) -> dict[str, Any]:
    """What an engine has to do for requests that we sent it."""
    rate = parts.router.rate(pod.model).tokens_per_second
    load = parts.router.loads.load(engine, parts.clock(), rate=rate)
    return {"waiting": load.waiting, "running": load.running, "queued_tokens": round(load.queued_tokens, 1)}


def _engine(parts: Parts, engine: Engine, view: StreamView | None, known: set[Engine]) -> dict[str, Any]:
    record = record_of(parts, engine) if engine in known else None
    return {
        "pod": engine.pod,
        "rank": engine.rank,
        "connected": is_connected(view),
        **(_no_record(parts, engine) if record is None else _record_view(record)),
        "stream": None if view is None else _stream_view(view),
    }


def record_of(parts: Parts, engine: Engine) -> RecordView | None:
    """An engine's record, if there is one."""
    try:
        return parts.index.record(engine)
    except KeyError:  # it went away since it was listed
        return None


def _no_record(parts: Parts, engine: Engine) -> dict[str, Any]:
    pod = parts.pods.get(engine.pod)
    return {
        "model": (pod.model or None) if pod else None,
        "trust": Trust.UNKNOWN.value,
        "reason": "never heard",
        "since_s": None,
        "blocks": 0,
        "media": {},
        "sequence": None,
    }


def _record_view(record: RecordView) -> dict[str, Any]:
    worst = max(record.media.values(), key=lambda view: view.trust.rank, default=None)
    return {
        "model": record.model,
        "trust": record.trust.value,
        "reason": None if worst is None else worst.reason,
        "since_s": None if worst is None else _since(worst),
        "blocks": sum(view.entries for view in record.media.values()),
        "media": {name: _medium_view(view) for name, view in record.media.items()},
        "sequence": record.sequence,
        "lives": record.lives,
        "block_size": record.block_size,
        "dialect": record.dialect,
        "orphans": record.orphans,
        "counters": dict(record.counters),
        "lag": _lag_view(record.lag),
    }


def _medium_view(view: MediumView) -> dict[str, Any]:
    return {
        "trust": view.trust.value,
        "reason": view.reason,
        "since_s": _since(view),
        "entries": view.entries,
        "doubtful": view.doubtful,
    }


def _since(view: MediumView) -> float:
    """Seconds for which trust has been what it is; the wall clock may have been set meanwhile."""
    return round(max(0.0, time.time() - view.since), 3)


def _lag_view(lag: LagView) -> dict[str, Any]:
    if not lag.count:
        return {"batches": 0, "mean_s": None, "last_s": None, "ahead": 0}
    mean = lag.seconds / lag.count
    return {"batches": lag.count, "mean_s": round(mean, 6), "last_s": round(lag.last_s, 6), "ahead": lag.ahead}


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
        "unfilled": view.unfilled,
        "replays": view.replays,
        "restarts": view.restarts,
        "rebuilds": view.rebuilds,
        "oversize": view.oversize,
        "reconnects": view.reconnects,
        "index_errors": view.index_errors,
        "last_event_age_s": view.last_event_age_s,
        "error": view.error,
        "replay_available": view.replay_available,
    }
