"""
Batches that plainly follow, of several engines, given to the index in one call.

An engine mostly has one batch to tell at a time, and a call of its own for each costs more than the batch. So the links
that have a turn together leave theirs here. Until the call is over a link stays locked: nobody sees a number as applied
that is not in the index yet.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final, Protocol

from kvsync.stream.endpoints import Source
from kvsync.stream.instructions import Payload
from kvsync.stream.target import LiveTarget

logger = logging.getLogger(__name__)

RUN_FRAMES: Final = 16
"""Batches given to the index in one call: enough to make it cheap, few enough for others who wait for their turn."""


class Runner(Protocol):
    """What leaves a run here: a link."""

    @property
    def source(self) -> Source: ...

    def pin(self) -> None:
        """Let nobody look until `unpin`, which comes as often."""
        ...

    def unpin(self) -> None: ...

    def apply(self, number: int, payload: Payload) -> None:
        """Apply one batch of a run that was refused as a whole."""
        ...


Run = tuple[Runner, int, Sequence[Payload]]


class Runs:
    """
    The runs that wait for the next call, `RUN_FRAMES` batches at most. Belongs to one thread, which calls `flush`
    before it waits or changes the index otherwise.
    """

    def __init__(self, target: LiveTarget) -> None:
        self._target = target
        self._runs: list[Run] = []
        self._count = 0

    def __repr__(self) -> str:
        return f"<Runs {self._count} batches>"

    def add(self, link: Runner, first: int, payloads: Sequence[Payload]) -> None:
        """Leave batches numbered from `first` on, `RUN_FRAMES` of them at most."""
        if self._count + len(payloads) > RUN_FRAMES:
            self.flush()
        link.pin()
        self._runs.append((link, first, payloads))
        self._count += len(payloads)

    def flush(self) -> None:
        """Apply what waits; raises nothing for it."""
        if not self._runs:
            return
        runs, self._runs, self._count = self._runs, [], 0
        try:
            self._target.apply_many(
                [
                    (link.source.engine, payload, link.source.model, number)
                    for link, first, payloads in runs
                    for number, payload in enumerate(payloads, first)
                ]
            )
        except Exception:
            logger.debug("runs of batches were refused, and are tried one by one", exc_info=True)
            # To know which one it is; those that were applied are known by their numbers.
            for link, first, payloads in runs:
                for number, payload in enumerate(payloads, first):
                    link.apply(number, payload)
        finally:
            for link, _, _ in runs:
                link.unpin()
