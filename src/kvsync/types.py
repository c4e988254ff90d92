"""
The plain values every room speaks in: engines, matches, trust, and what an applied frame did.

Nothing here does anything; nothing here imports another room.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

EngineHash: TypeAlias = int | bytes
"""What an engine calls a block: opaque, and meaningful for that engine only. Integers are unsigned 64-bit."""

ExtraKey: TypeAlias = tuple[str, int, int]
"""An image or the like in a prompt: (identifier, first token, number of tokens)."""

ExtraKeys: TypeAlias = Sequence[ExtraKey]

GPU = "GPU"
"""The medium that an event without one means."""

NO_MEDIA: Mapping[str, int] = MappingProxyType({})


class Trust(StrEnum):
    """How far the record of one engine on one medium may be believed."""

    EXACT = "exact"
    """Equal to what the engine holds."""

    PARTIAL = "partial"
    """True, but not all: a lower bound."""

    STALE = "stale"
    """May hold blocks that the engine lost."""

    UNKNOWN = "unknown"
    """Never heard."""

    @property
    def rank(self) -> int:
        """0 for exact to 3 for unknown: the larger, the less it may be believed."""
        return _TRUST_ORDER[self]


NO_TRUST: Mapping[str, Trust] = MappingProxyType({})

_TRUST_ORDER = {Trust.EXACT: 0, Trust.PARTIAL: 1, Trust.STALE: 2, Trust.UNKNOWN: 3}


class Engine(NamedTuple):
    """
    One publisher of events: one data-parallel rank of one pod.

    `pod` is `namespace/name` on Kubernetes and any non-empty text elsewhere.
    """

    pod: str
    rank: int = 0

    def __str__(self) -> str:
        return f"{self.pod}/{self.rank}"


@dataclass(frozen=True, slots=True)
class Applied:
    """
    What one frame did to the index.

    `stored`, `removed`, `cleared` and `reannounced` count block hashes, `skipped` counts events that
    could not be applied. All zero: the frame was empty, or its number had been applied before.
    """

    stored: int = 0
    removed: int = 0
    cleared: int = 0
    skipped: int = 0
    reannounced: int = 0


@dataclass(frozen=True, slots=True)
class Match:
    """
    How much of a prompt's beginning one engine holds.

    `blocks` counts leading blocks without a hole, `tokens` the tokens in them, `by_medium` where the
    fastest copy of each lies (it sums to `blocks`). `certain` is false where the engine's events cannot
    tell apart what the query asks for. `trust` is the worst over the engine's media, `trust_by_medium` that of
    each medium in `by_medium`.
    """

    blocks: int
    tokens: int
    by_medium: Mapping[str, int] = field(default_factory=lambda: NO_MEDIA)
    certain: bool = True
    trust: Trust = Trust.UNKNOWN
    trust_by_medium: Mapping[str, Trust] = field(default_factory=lambda: NO_TRUST, compare=False)


@dataclass(frozen=True, slots=True)
class Bookmark:
    """The last batch applied, as far as a later process needs it to tell the same life from another."""

    number: int
    digest: bytes
