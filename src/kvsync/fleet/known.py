"""
The state of a source of pods that changes: what is known now, and who is told of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from kvsync.fleet.finding import Finding
from kvsync.fleet.pod import Pod


class KnownPods:
    """The pods and findings that were set last. Whoever looks sees one state, whole; subclasses find it out."""

    def __init__(self) -> None:
        self._pods: Mapping[str, Pod] = MappingProxyType({})
        self._findings: Sequence[Finding] = ()
        self._told: Callable[[], None] = lambda: None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._pods)} findings={len(self._findings)}>"

    def current(self) -> Mapping[str, Pod]:
        return self._pods

    def findings(self) -> Sequence[Finding]:
        return self._findings

    def listen(self, told: Callable[[], None]) -> None:
        self._told = told

    def _set(self, pods: Iterable[Pod], findings: Iterable[Finding]) -> None:
        """Take over a new state, and tell of it if it is new."""
        by_name, found = {pod.name: pod for pod in pods}, tuple(findings)
        if by_name != self._pods or found != self._findings:
            self._pods, self._findings = MappingProxyType(by_name), found
            self._told()
