"""The source whose pods were named by flag, environment or file: they never change."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Mapping
from types import MappingProxyType

from kvsync.fleet.pod import Pod, check_pods
from kvsync.fleet.source import PodChange, difference


class StaticPods:
    """A fixed set of pods. Two of one name are a `ConfigError`."""

    def __init__(self, pods: Iterable[Pod]) -> None:
        self._pods = MappingProxyType({pod.name: pod for pod in check_pods(pods)})

    def __repr__(self) -> str:
        return f"<StaticPods {len(self._pods)}>"

    def current(self) -> Mapping[str, Pod]:
        return self._pods

    async def changes(self) -> AsyncIterator[PodChange]:
        await asyncio.Event().wait()
        for change in difference(self._pods, self._pods):
            yield change
