"""
What the sources that look again and again have in common.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from abc import ABC, abstractmethod

from kvsync.fleet.known import KnownPods

_logger = logging.getLogger(__name__)


class LivePods(KnownPods, ABC):
    """A source that looks every `every_s`, and is told what it saw by `_set`."""

    def __init__(self, every_s: float) -> None:
        super().__init__()
        self._every_s = every_s
        self._task: asyncio.Task[None] | None = None

    async def open(self) -> None:
        await self._look()
        self._task = asyncio.create_task(self._look_on())

    async def close(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    @abstractmethod
    async def _look(self) -> None:
        """Look once, and `_set` what there is; what cannot be looked at leaves the pods, with a finding."""

    async def _look_on(self) -> None:
        while True:
            await asyncio.sleep(self._every_s)
            try:
                await self._look()
            except Exception:
                _logger.exception("%r could not look; it tries again", self)
