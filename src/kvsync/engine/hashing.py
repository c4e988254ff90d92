"""
What the simulated engine calls a block: a digest over the block before it, its tokens and its extra keys.

The digest is keyed with a seed, so two engines with different seeds name the same tokens differently, as
engines without a fixed seed do. How a digest looks on the wire is a matter of its form: the low eight
bytes as an unsigned or a signed integer, or 32 or 16 bytes as they are.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from enum import StrEnum
from hashlib import blake2b
from typing import TypeAlias

Digest: TypeAlias = bytes
"""A block's name inside the engine."""

MediaKey: TypeAlias = tuple[str, int]
"""An image in a block: its identifier, and where it begins relative to the block (negative: earlier)."""

BlockExtras: TypeAlias = tuple[str | MediaKey, ...]
"""What a block's name depends on beside its tokens: adapter, images, salt, in this order."""

_INTEGER_BYTES = 8


class HashForm(StrEnum):
    """How a block's digest is written in events."""

    U64 = "u64"
    I64 = "i64"
    BYTES32 = "bytes32"
    BYTES16 = "bytes16"

    @property
    def is_bytes(self) -> bool:
        return self in (HashForm.BYTES32, HashForm.BYTES16)

    def write(self, digest: Digest) -> int | bytes:
        """Give the digest as an event carries it."""
        if self is HashForm.BYTES32:
            return digest
        if self is HashForm.BYTES16:
            return digest[-16:]
        return int.from_bytes(digest[-_INTEGER_BYTES:], "big", signed=self is HashForm.I64)

    def show(self, digest: Digest) -> str:
        """Give the digest as reports print it: unsigned decimal, or lower-case hex."""
        if self.is_bytes:
            written = self.write(digest)
            assert isinstance(written, bytes)
            return written.hex()
        return str(int.from_bytes(digest[-_INTEGER_BYTES:], "big"))


@dataclass(frozen=True, slots=True)
class BlockHasher:
    """
    Names blocks: equal prefixes get equal digests under one seed, in any process.
    """

    seed: int

    def digest(self, parent: Digest | None, tokens: array[int], extras: BlockExtras | None) -> Digest:
        """Name the block that holds `tokens` and follows `parent` (None: it begins a prompt)."""
        state = blake2b(parent or b"", digest_size=32, key=self.seed.to_bytes(8, "big", signed=True))
        # Length first, so that tokens and extras cannot be shifted into one another.
        state.update(len(tokens).to_bytes(4, "big"))
        state.update(tokens)
        if extras:
            state.update(repr(extras).encode("utf-8", "backslashreplace"))
        return state.digest()
