"""
All watchers as one source of pods. Their threads only ring; what they know is fetched and put together on the loop.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Final
from urllib.parse import urlsplit

from kvsync.fleet.finding import Finding
from kvsync.fleet.known import KnownPods
from kvsync.fleet.kubernetes.api import OfficialPodApi, PodApi, check_installed
from kvsync.fleet.kubernetes.configuration import check_there
from kvsync.fleet.kubernetes.failure import finding_of
from kvsync.fleet.kubernetes.options import ALL_NAMESPACES, KubernetesOptions
from kvsync.fleet.kubernetes.reading import SOURCE, Reading
from kvsync.fleet.kubernetes.watcher import Snapshot, Watcher
from kvsync.fleet.pod import Pod

JOIN_S: Final = 2.0
FAILURES_TOLD: Final = 2
"""Failures in a row after which one that may pass by itself is told."""

_logger = logging.getLogger(__name__)


class KubernetesPods(KnownPods):
    """
    The pods of a cluster. `make_api` is given where it is not the official client that shall be asked.

    While the API server is away the pods stay as they are. `close` ends the threads; one that waits for a server that
    never answers ends by itself, within `answer_s`.
    """

    def __init__(
        self,
        options: KubernetesOptions,
        make_api: Callable[[KubernetesOptions], PodApi] = OfficialPodApi,
        *,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        self._options = options
        self._make_api = make_api
        self._rng = Random(seed)
        self._watchers: list[Watcher] = []
        self._looked = asyncio.Event()
        self._is_rung = False

    def __repr__(self) -> str:
        return f"<KubernetesPods {len(self._pods)} findings={len(self._findings)} watchers={self._watchers}>"

    async def open(self) -> None:
        check_installed()
        check_there(self._options.kubeconfig)
        loop = asyncio.get_running_loop()

        def stir() -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody listens any more
                if not self._is_rung:
                    self._is_rung = True
                    loop.call_soon_threadsafe(self._take)

        options = self._options
        self._watchers = [
            Watcher(self._make_api(options), namespace, selector, options, stir, Random(self._rng.random()))
            for namespace in options.namespaces or (None,)
            for selector in options.selectors
        ]
        for watcher in self._watchers:
            watcher.start()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(options.open_s):
                await self._looked.wait()

    async def close(self) -> None:
        watchers, self._watchers = self._watchers, []
        for watcher in watchers:
            watcher.stop()
        ended = await asyncio.gather(*(asyncio.to_thread(watcher.join, JOIN_S) for watcher in watchers))
        if not all(ended):
            _logger.warning("a watch of pods still waits for the API server; it ends by itself")

    def _take(self) -> None:
        self._is_rung = False  # first: what comes from here on rings again
        snapshots = [watcher.snapshot() for watcher in self._watchers]
        if not snapshots:
            return
        readings = merged(snapshots)
        pods = [pod for reading in readings.values() if (pod := described(reading, self._pods)) is not None]
        findings = (*troubles(snapshots), *(finding for r in readings.values() for finding in r.findings))
        if all(snapshot.is_listed or snapshot.failure is not None for snapshot in snapshots):
            self._looked.set()
        self._set(pods, findings)


def merged(snapshots: Iterable[Snapshot]) -> dict[str, Reading]:
    """
    All pods that are there, by name, the oldest first; one that two selectors find is one.

    Which of two pods has what both claim follows from their order: so it is the same for every daemon, and is not for
    a new list to change.
    """
    readings: dict[str, Reading] = {}
    for snapshot in snapshots:
        for name, reading in snapshot.readings.items():
            if reading.is_there:
                readings.setdefault(name, reading)
    return dict(sorted(readings.items(), key=lambda named: (named[1].created, named[0])))


def described(reading: Reading, good: Mapping[str, Pod]) -> Pod | None:
    """The pod; where its description has a fault, as it was described before, if it is the same pod and still there."""
    if reading.pod is not None:
        return reading.pod
    before = good.get(reading.name)
    if before is None or before.uid != reading.uid or urlsplit(before.http).hostname != reading.address.lower():
        return None
    return replace(before, ready=reading.ready, leaving=reading.leaving, life=reading.life)


def troubles(snapshots: Sequence[Snapshot]) -> list[Finding]:
    """What is wrong with the way to the pods: refusals, and namespaces where none is found."""
    findings = [
        finding_of(snapshot.failure, _place(snapshot.namespace))
        for snapshot in snapshots
        if snapshot.failure is not None and (snapshot.failure.is_lasting or snapshot.failures >= FAILURES_TOLD)
    ]
    for namespace in dict.fromkeys(snapshot.namespace for snapshot in snapshots if snapshot.is_listed):
        there = [snapshot for snapshot in snapshots if snapshot.namespace == namespace]
        if all(snapshot.is_listed and not snapshot.readings for snapshot in there):
            selectors = " or ".join(repr(snapshot.selector) for snapshot in there)
            text = f"no pod matches {selectors}; check the namespace, the pods' labels and --kubernetes-selector"
            findings.append(Finding(SOURCE, _place(namespace), "no_pods", text))
    return list(dict.fromkeys(findings))


def _place(namespace: str | None) -> str:
    if namespace is None:
        return "cluster"
    return "all namespaces" if namespace == ALL_NAMESPACES else f"namespace {namespace}"
