"""
Whether the daemon is ready, and how much of the fleet it sees as it is now. Looks, and changes nothing.

    ready = a pod is up, engines' pasts are read (or have taken too long), and coverage is at least the setting
"""

from __future__ import annotations

from typing import Any

from kvsync.serve.parts import Parts
from kvsync.serve.ports import StreamView
from kvsync.types import Trust

WARM_UP_S = 5.0
"""How long the daemon may call itself not ready because of engines that cannot be reached or are being replayed."""


def readiness(parts: Parts) -> dict[str, Any]:
    """All that `/readyz` says: `problems` is empty exactly while the daemon is ready."""
    seen, waiting, least = coverage(parts), warming(parts), parts.settings.ready_coverage
    problems = []
    if not seen["pods"]["up"]:
        problems.append("no pod is up")
    if waiting:
        problems.append(f"the past of {len(waiting)} engines is being read")
    if seen["coverage"] < least:
        problems.append(
            f"{seen['coverage']:.3g} of the engines are connected and at least {seen['trust_least']};"
            f" the setting ready_coverage asks for {least:g}"
        )
    return {"ready": not problems, "problems": problems, **seen, "coverage_least": least, "warming": waiting}


def coverage(parts: Parts) -> dict[str, Any]:
    """
    `coverage` is the share of engines that are connected and trusted at least as the setting `ready_trust` says.

    `trust` counts connected engines only: the record of one that is gone may be exact, and says nothing of now.
    """
    expected = [engine for pod in parts.pods.values() if pod.events is not None for engine in pod.engines]
    status = parts.streams.status()
    connected = [engine for engine in expected if is_connected(status.get(engine))]
    trust = {trust.value: 0 for trust in Trust}
    for engine in connected:
        trust[parts.index.trust(engine).value] += 1
    up = sum(parts.health.is_up(name) for name in parts.pods)
    least = Trust(parts.settings.ready_trust)
    good = sum(count for name, count in trust.items() if Trust(name).rank <= least.rank)
    return {
        "pods": {"known": len(parts.pods), "up": up},
        "engines": {"expected": len(expected), "connected": len(connected), "trust": trust},
        "coverage": good / len(expected) if expected else 1.0,
        "trust_least": least.value,
    }


def warming(parts: Parts) -> list[str]:
    """
    The engines whose past is still being read, in the first seconds: until then picks would miss what they hold.
    """
    if parts.clock() - parts.started > WARM_UP_S:
        return []
    status = parts.streams.status()
    return [str(engine) for engine, view in status.items() if view.state in ("connecting", "replaying")]


def is_connected(view: StreamView | None) -> bool:
    """Whether an engine is heard now."""
    return view is not None and view.connected
