"""
Tokens on their way from the rank to the connection that waits for them, and the text they make.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from kvsync.engine.request import Finish, Produced
from kvsync.tokens.bytelevel import decode


class TokenStream:
    """
    What a request produced and nobody has taken yet; one producer, one consumer, one event loop.
    """

    __slots__ = ("_produced", "_waiter")

    def __init__(self) -> None:
        self._produced: list[Produced] = []
        self._waiter: asyncio.Future[None] | None = None

    def put(self, produced: Produced) -> None:
        self._produced.append(produced)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def take(self) -> list[Produced]:
        """Wait for something and give all there is, in order; a slow reader gets several tokens at once."""
        if not self._produced:
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        taken, self._produced = self._produced, []
        return taken


class TextAssembler:
    """
    Turns tokens into text that may be shown, holding back what could turn out to be a stop string.
    """

    __slots__ = ("_held", "_hold", "_stops")

    def __init__(self, stops: Sequence[bytes]) -> None:
        self._stops = tuple(stop.decode() for stop in stops)
        self._hold = max(map(len, self._stops), default=1) - 1
        self._held = ""

    def add(self, tokens: Sequence[int], finish: Finish | None) -> str:
        """Take tokens and give the text that is settled; with `finish`, all of it but a stop string."""
        self._held += decode(tokens)
        if finish is not None:
            shown, self._held = self._without_stop(), ""
            return shown
        settled = max(0, len(self._held) - self._hold)
        shown, self._held = self._held[:settled], self._held[settled:]
        return shown

    def _without_stop(self) -> str:
        for stop in self._stops:
            if self._held.endswith(stop):
                return self._held.removesuffix(stop)
        return self._held
