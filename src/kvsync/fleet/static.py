"""The source whose pods were named by flag, environment or file: they never change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from kvsync.fleet.finding import Finding
from kvsync.fleet.pod import Pod, check_pods


class StaticPods:
    """A fixed set of pods. Two of one name are a `ConfigError`."""

    def __init__(self, pods: Iterable[Pod]) -> None:
        self._pods = MappingProxyType({pod.name: pod for pod in check_pods(pods)})

    def __repr__(self) -> str:
        return f"<StaticPods {len(self._pods)}>"

    def current(self) -> Mapping[str, Pod]:
        return self._pods

    def findings(self) -> Sequence[Finding]:
        return ()

    def listen(self, told: Callable[[], None]) -> None:
        pass

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass
