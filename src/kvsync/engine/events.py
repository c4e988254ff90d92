"""
What happens to the cache, before any wire form: blocks stored, blocks removed, everything cleared.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import TypeAlias

from kvsync.engine.hashing import BlockExtras, Digest


@dataclass(frozen=True, slots=True)
class Lora:
    """An adapter: its name, and the number the engine gave it (from 1)."""

    name: str
    number: int


@dataclass(frozen=True, slots=True)
class GroupSpec:
    """
    One KV cache group of the model: full attention, or sliding window attention of `window` tokens.
    """

    window: int | None = None

    @property
    def kind(self) -> str:
        return "full_attention" if self.window is None else "sliding_window"


@dataclass(frozen=True, slots=True)
class BlockStored:
    """
    Consecutive blocks entered the cache; `parent` is the block before the first, None at a prompt's start.

    `salt` is the request's, if any; it is part of the first block's extras as well.
    """

    hashes: tuple[Digest, ...]
    parent: Digest | None
    tokens: array[int]
    block_size: int
    lora: Lora | None
    extras: tuple[BlockExtras | None, ...]
    group: int
    spec: GroupSpec
    session: str | None = None
    salt: str | None = None


@dataclass(frozen=True, slots=True)
class BlockRemoved:
    """Copies of these blocks left the cache."""

    hashes: tuple[Digest, ...]
    group: int


@dataclass(frozen=True, slots=True)
class AllBlocksCleared:
    """Everything left the cache at once."""


CacheEvent: TypeAlias = BlockStored | BlockRemoved | AllBlocksCleared
