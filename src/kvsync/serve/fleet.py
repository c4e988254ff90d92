"""
The fleet's changes, brought to everyone who must know: subscriber, health, router, index.

What is the same before and after is left alone: a pod that becomes ready, lists another adapter or gains a rank keeps
the streams and the records of its other engines. An engine that could not be followed, as beyond `engines_max`, is
tried again every few seconds, for ever. A pod whose containers began anew keeps them as well: its streams
see the new life by themselves, and sooner than any API server tells of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Iterable
from dataclasses import replace

from kvsync.errors import KvsyncError
from kvsync.fleet import Finding, Pod, PodChange, PodSource, difference
from kvsync.serve.parts import Parts
from kvsync.serve.roster import Learned, is_same
from kvsync.stream.endpoints import Source
from kvsync.types import Engine

RETRY_S = 5.0

_logger = logging.getLogger(__name__)


async def follow(parts: Parts, source: PodSource) -> None:
    """Take every change over, for ever; cancel to stop."""
    stirred = asyncio.Event()
    source.listen(stirred.set)
    while True:
        adopt(parts, source)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(RETRY_S if parts.roster.refused else None):
                await stirred.wait()
        stirred.clear()
        retry(parts)


def retry(parts: Parts) -> None:
    """Try again to follow the engines that could not be followed."""
    for engine in tuple(parts.roster.refused):
        _follow(parts, _sources(parts.pods[engine.pod])[engine])


def adopt(parts: Parts, source: PodSource) -> None:
    """Take over the pods that are there now, and what is wrong with others."""
    roster = parts.roster
    changes = difference(roster.described, source.current())
    for change in changes:
        apply(parts, change)
    if any(change.after is None for change in changes):
        parts.metrics.keep_only(parts.pods)
    _tell(roster.of_sources, source.findings())
    roster.of_sources = tuple(source.findings())


def apply(parts: Parts, change: PodChange) -> None:
    """A pod comes, goes, or is described anew; another pod of the same name comes after the old one went."""
    roster, name = parts.roster, change.name
    if name in roster.described and (change.after is None or not is_same(roster.described[name], change.after)):
        del roster.described[name]
        _settle(parts, name)
        roster.forget(name)
    if change.after is not None:
        roster.described[name] = change.after
        _settle(parts, name)


def learn(parts: Parts, pod: Pod, learned: Learned | None, finding: Finding | None) -> None:
    """Take over what a pod lists (None: it did not say), and what is wrong with that; unless it has gone meanwhile."""
    roster, name = parts.roster, pod.name
    described = roster.described.get(name)
    if described is None or not is_same(described, pod) or described.life != pod.life:
        return
    before = roster.served.pop(name, None)
    if finding is not None:
        roster.served[name] = finding
    _tell([before] if before else [], [finding] if finding else [])
    if learned is not None:
        roster.learned[name] = replace(learned, adapter_stores=parts.index.adapter_stores)
        _settle(parts, name)


def _settle(parts: Parts, name: str) -> None:
    """Make everybody see the pod as the roster has it."""
    before, after = parts.pods.get(name), parts.roster.pod(name)
    if before == after:
        return
    if after is None:
        assert before is not None
        _remove(parts, before)
        return
    if before is None:
        parts.health.add(name, parts.clock())
        _logger.info("pod %s added", name, extra={"pod": name, "http": after.http, "events": after.events})
    elif before.ready != after.ready:
        _logger.info("pod %s is %s", name, "ready" if after.ready else "not ready", extra={"pod": name})
    parts.pods[name] = after
    parts.health.set_ready(name, is_ready=after.ready, now=parts.clock())
    if before is not None and before.life != after.life:
        for engine in before.engines:
            parts.router.own_picks.forget(engine)
            parts.router.approximate.forget(engine)
    _restream(parts, before, after)


def _remove(parts: Parts, pod: Pod) -> None:
    del parts.pods[pod.name]
    parts.health.remove(pod.name)
    for engine in pod.engines:
        _forget(parts, engine, followed=bool(pod.sources))
    _logger.info("pod %s removed", pod.name, extra={"pod": pod.name})


def _restream(parts: Parts, before: Pod | None, after: Pod) -> None:
    """Stop following the engines that went or are found elsewhere now, and follow those that are new."""
    had, has = _sources(before), _sources(after)
    for engine in before.engines if before else ():
        if engine not in after.engines or had.get(engine) != has.get(engine):
            _forget(parts, engine, followed=engine in had)
    for engine, source in has.items():
        if had.get(engine) != source:
            _follow(parts, source)


def _follow(parts: Parts, source: Source) -> None:
    """Follow an engine, or say why that cannot be."""
    refused, engine = parts.roster.refused, source.engine
    before, after = refused.pop(engine, None), None
    try:
        bookmark, is_whole = parts.inherited.claim(source, parts.index)
        parts.streams.add(source, bookmark, is_whole=is_whole)
    except KvsyncError as error:
        after = Finding("stream", str(engine), "not_followed", f"its events are not followed: {error}")
        refused[engine] = after
    _tell([before] if before else [], [after] if after else [])


def _sources(pod: Pod | None) -> dict[Engine, Source]:
    return {} if pod is None else {source.engine: source for source in pod.sources}


def _forget(parts: Parts, engine: Engine, *, followed: bool) -> None:
    refused = parts.roster.refused.pop(engine, None)
    if refused is not None:
        _tell([refused], [])
    elif followed:
        parts.streams.remove(engine)
    parts.index.remove(engine)
    parts.router.forget(engine)
    parts.picker.block_sizes.pop(engine, None)


def _tell(before: Iterable[Finding], after: Iterable[Finding]) -> None:
    """Say each trouble once when it comes, and once when it is over."""
    had, has = dict.fromkeys(before), dict.fromkeys(after)
    for finding in has.keys() - had.keys():
        _logger.warning("%s", finding, extra={"source": finding.source, "reason": finding.reason})
    for finding in had.keys() - has.keys():
        _logger.info("no longer so: %s", finding, extra={"source": finding.source, "reason": finding.reason})
