"""
Where pods come from: what is there now, and what changes.

A source is asked once for `current()` and then listened to by `changes()`, which begins where `current()` ended and
never ends by itself. A consumer that starts from nothing applies `difference({}, source.current())` first, so that
one code path adds a pod, whether it was there from the beginning or came later.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from kvsync.fleet.pod import Pod


@dataclass(frozen=True, slots=True)
class PodChange:
    """A pod came (`before` is None), went (`after` is None), or is described anew."""

    name: str
    before: Pod | None
    after: Pod | None


class PodSource(Protocol):
    """Anything that knows pods by name."""

    def current(self) -> Mapping[str, Pod]:
        """The pods known now, by name."""
        ...

    def changes(self) -> AsyncIterator[PodChange]:
        """What happens from now on, for ever; cancel the reading task to stop."""
        ...


def difference(before: Mapping[str, Pod], after: Mapping[str, Pod]) -> list[PodChange]:
    """The changes that lead from one set of pods to the other: first who goes, then who comes or differs."""
    gone = [PodChange(name, pod, None) for name, pod in before.items() if name not in after]
    come = [PodChange(name, before.get(name), pod) for name, pod in after.items() if before.get(name) != pod]
    return gone + come
