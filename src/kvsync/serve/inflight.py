"""How many requests are being answered, and a way to wait until none is."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager


class InFlight:
    """A count that can be waited for. Belongs to one event loop."""

    def __init__(self) -> None:
        self.count = 0
        self._none = asyncio.Event()
        self._none.set()

    def __repr__(self) -> str:
        return f"<InFlight {self.count}>"

    @contextmanager
    def one(self) -> Iterator[None]:
        """A request that is answered while the context lasts."""
        self.count += 1
        self._none.clear()
        try:
            yield
        finally:
            self.count -= 1
            if not self.count:
                self._none.set()

    async def wait_none(self, *, seconds: float, hurry: asyncio.Event) -> None:
        """Wait until there is none, but no longer than so many seconds, nor once there is a hurry."""
        waits = [asyncio.create_task(event.wait()) for event in (self._none, hurry)]
        try:
            await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
