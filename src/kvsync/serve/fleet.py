"""
The fleet's changes, brought to everyone who must know: subscriber, health, router, index.
"""

from __future__ import annotations

import logging

from kvsync.fleet import Pod, PodChange, PodSource, difference
from kvsync.serve.parts import Parts

_logger = logging.getLogger(__name__)


async def follow(parts: Parts, source: PodSource) -> None:
    """Take every change over, for ever; cancel to stop. `adopt` comes first."""
    async for change in source.changes():
        apply(parts, change)


def adopt(parts: Parts, source: PodSource) -> None:
    """Take over the pods that are there now."""
    for change in difference(parts.pods, source.current()):
        apply(parts, change)


def apply(parts: Parts, change: PodChange) -> None:
    """A pod comes, goes, or is described anew: then it goes, and comes."""
    if change.before is not None:
        _remove(parts, change.before)
    if change.after is not None:
        _add(parts, change.after)


def _add(parts: Parts, pod: Pod) -> None:
    parts.pods[pod.name] = pod
    parts.health.add(pod.name, parts.clock())
    for source in pod.sources:
        parts.streams.add(source, parts.inherited.claim(source, parts.index))
    _logger.info("pod %s added", pod.name, extra={"pod": pod.name, "http": pod.http, "events": pod.events})


def _remove(parts: Parts, pod: Pod) -> None:
    del parts.pods[pod.name]
    parts.health.remove(pod.name)
    for engine in pod.engines:
        if pod.events is not None:
            parts.streams.remove(engine)
        parts.index.remove(engine)
        parts.router.forget(engine)
        parts.picker.block_sizes.pop(engine, None)
    _logger.info("pod %s removed", pod.name, extra={"pod": pod.name})
