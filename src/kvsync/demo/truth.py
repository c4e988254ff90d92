"""
Is the index true? What an engine says it holds, against what the daemon's index says it holds, block by block.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

Copies = Mapping[tuple[str, str, str], int]
"""Copies by (medium, group, engine hash)."""


@dataclass(frozen=True, slots=True)
class Listing:
    """All that is held at one engine, as of one number of its stream (None: nothing was ever published)."""

    sequence: int | None
    copies: Copies

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Listing:
        """Read `{"sequence": n, "media": {medium: {group: {hash: copies}}}}`; a count of zero is not held."""
        media = document.get("media") or {}
        copies = {
            (str(medium).upper(), str(group), str(engine_hash)): int(count)
            for medium, groups in media.items()
            for group, hashes in groups.items()
            for engine_hash, count in hashes.items()
            if count
        }
        sequence = document.get("sequence")
        return cls(None if sequence is None or sequence < 0 else int(sequence), copies)

    @property
    def blocks(self) -> int:
        """Distinct blocks held."""
        return len(self.copies)


def differences(held: Listing, recorded: Listing) -> Iterator[str]:
    """Say where the record differs from what is held: missing blocks, blocks too many, other counts of copies."""
    for key in sorted(held.copies.keys() | recorded.copies.keys()):
        truth, record = held.copies.get(key, 0), recorded.copies.get(key, 0)
        if truth != record:
            medium, group, engine_hash = key
            yield f"{medium} group {group} hash {engine_hash}: the engine holds {truth}, the index says {record}"
