"""
Which pods' events are missing, and when that is worth a line in the log: a pure record; `monitor` looks and speaks.

A stream is given a few seconds, then spoken of once; the next word about it is that it came. One that came and is lost
again is a new story.
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from enum import Enum

PATIENCE_S = 5.0
"""How long a stream may be missing before that is told: engines of one fleet start within seconds of us."""


class News(Enum):
    """What is worth telling of one pod's events."""

    MISSING = "missing"
    CAME = "came"


@dataclass(slots=True)
class _Story:
    since: float
    connected: bool = False
    told: bool = False


class Absence:
    """The pods by name. Not thread-safe; time is an argument."""

    def __init__(self) -> None:
        self._stories: dict[str, _Story] = {}

    def __repr__(self) -> str:
        return f"<Absence of {sum(not story.connected for story in self._stories.values())}>"

    def keep_only(self, pods: AbstractSet[str]) -> None:
        """Forget every other pod; one that comes again begins anew."""
        for name in self._stories.keys() - pods:
            del self._stories[name]

    def is_here(self, pod: str) -> bool:
        """Whether all its event connections stood at the last look."""
        story = self._stories.get(pod)
        return story is not None and story.connected

    def look(self, pod: str, *, connected: bool, now: float) -> News | None:
        """Whether all event connections of the pod stand at this moment; gives what is to be told, if anything."""
        story = self._stories.setdefault(pod, _Story(now))
        if connected != story.connected:
            self._stories[pod] = _Story(now, connected)
            return News.CAME if connected else None
        if not connected and not story.told and now - story.since >= PATIENCE_S:
            story.told = True
            return News.MISSING
        return None
