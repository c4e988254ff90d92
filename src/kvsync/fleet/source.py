"""
Where pods come from: what is there now, and that something has changed.

A source is opened, looked at, and listened to. What it says is a state, not a history: whoever listens looks again
and takes the difference, so that a notice may be lost or doubled and nothing goes wrong. One code path adds a pod,
whether it was there from the beginning or came later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from kvsync.fleet.finding import Finding
from kvsync.fleet.pod import Pod


@dataclass(frozen=True, slots=True)
class PodChange:
    """A pod came (`before` is None), went (`after` is None), or is described anew."""

    name: str
    before: Pod | None
    after: Pod | None


class PodSource(Protocol):
    """Anything that knows pods by name. Used on the event loop only."""

    def current(self) -> Mapping[str, Pod]:
        """The pods known now, by name; those that were known stay while a source cannot be read."""
        ...

    def findings(self) -> Sequence[Finding]:
        """What is wrong now."""
        ...

    def listen(self, told: Callable[[], None]) -> None:
        """Call this whenever `current` or `findings` may differ from before."""
        ...

    async def open(self) -> None:
        """Take a first look, for a bounded time, and go on looking; `ConfigError` for what can never work."""
        ...

    async def close(self) -> None:
        """Stop looking; a second call does nothing."""
        ...


def difference(before: Mapping[str, Pod], after: Mapping[str, Pod]) -> list[PodChange]:
    """The changes that lead from one set of pods to the other: first who goes, then who comes or differs."""
    gone = [PodChange(name, pod, None) for name, pod in before.items() if name not in after]
    come = [PodChange(name, before.get(name), pod) for name, pod in after.items() if before.get(name) != pod]
    return gone + come
