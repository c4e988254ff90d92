"""
How much engines are asked for of late: where not all records can be mended at once, these come first.

A model weighs as much as the requests that were considered for it, and an engine of it by as much more as it was
picked: so the engines of a model that nobody asks for come last, and one that was never picked, because it is new or
its record is empty, comes before them. What was long ago counts for little: half after `HALF_S` seconds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from kvsync.types import Engine

HALF_S = 300.0


@dataclass(slots=True)
class Interest:
    """
    Requests by model and by engine, each weighing less as time passes.

    `weight` may be called in any thread: what it reads is replaced whole, never changed.
    """

    _counts: dict[str | Engine, tuple[float, float]] = field(default_factory=dict)

    def add(self, what: str | Engine, now: float) -> None:
        """One more request for a model, or to an engine."""
        self._counts[what] = (self._count(what, now) + 1.0, now)

    def forget(self, engine: Engine) -> None:
        """The engine is gone."""
        self._counts.pop(engine, None)

    def weight(self, engine: Engine, model: str, now: float) -> float:
        """How much an engine of this model is asked for."""
        return self._count(model, now) + self._count(engine, now)

    def _count(self, what: str | Engine, now: float) -> float:
        count, at = self._counts.get(what, (0.0, now))
        return count * math.exp2(-max(0.0, now - at) / HALF_S)
