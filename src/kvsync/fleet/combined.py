"""
Several sources as one: their pods together, after names and addresses are settled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from kvsync.fleet.finding import Finding
from kvsync.fleet.pod import Pod
from kvsync.fleet.settle import settle
from kvsync.fleet.source import PodSource


class CombinedPods:
    """The pods of several sources; where two claim one thing, the source that was given first has it."""

    def __init__(self, sources: Sequence[PodSource]) -> None:
        self._sources = tuple(sources)
        self._told: Callable[[], None] = lambda: None
        self._settled: tuple[Mapping[str, Pod], Sequence[Finding]] | None = None
        for source in self._sources:
            source.listen(self._stir)

    def __repr__(self) -> str:
        return f"<CombinedPods of {', '.join(map(repr, self._sources))}>"

    def current(self) -> Mapping[str, Pod]:
        return self._settle()[0]

    def findings(self) -> Sequence[Finding]:
        return self._settle()[1]

    def listen(self, told: Callable[[], None]) -> None:
        self._told = told

    async def open(self) -> None:
        for source in self._sources:
            await source.open()

    async def close(self) -> None:
        for source in self._sources:
            await source.close()

    def _stir(self) -> None:
        self._settled = None
        self._told()

    def _settle(self) -> tuple[Mapping[str, Pod], Sequence[Finding]]:
        if self._settled is None:
            pods, findings = settle(pod for source in self._sources for pod in source.current().values())
            of_sources = [finding for source in self._sources for finding in source.findings()]
            self._settled = pods, (*of_sources, *findings)
        return self._settled
