"""
What the sources that look again and again have in common: the last state, and who is told of a new one.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from kvsync.fleet.finding import Finding
from kvsync.fleet.pod import Pod

_logger = logging.getLogger(__name__)


class LivePods:
    """A source that is set from time to time. Subclasses look once in `_look`, which is called every `every_s`."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._pods: Mapping[str, Pod] = MappingProxyType({})
        self._findings: Sequence[Finding] = ()
        self._told: Callable[[], None] = lambda: None
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {len(self._pods)} findings={len(self._findings)}>"

    def current(self) -> Mapping[str, Pod]:
        return self._pods

    def findings(self) -> Sequence[Finding]:
        return self._findings

    def listen(self, told: Callable[[], None]) -> None:
        self._told = told

    async def open(self) -> None:
        await self._look()
        self._task = asyncio.create_task(self._look_on())

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _look(self) -> None:
        raise NotImplementedError

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self._look()
            except Exception:
                _logger.exception("%r could not look; it tries again", self)

    def _set(self, pods: Iterable[Pod], findings: Iterable[Finding]) -> None:
        """Take over a new state, and tell of it if it is new."""
        by_name, found = {pod.name: pod for pod in pods}, tuple(findings)
        if by_name != self._pods or found != self._findings:
            self._pods, self._findings = MappingProxyType(by_name), found
            self._told()
