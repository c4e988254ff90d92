"""
What is remembered of batches by number, within bounds: those that wait above a hole, and those that may come twice.
"""

from __future__ import annotations

from kvsync.stream.bookmark import digest
from kvsync.stream.instructions import Payload


class Waiting:
    """
    Batches kept above a hole, until it is filled or given up.

    The bounds are told, not enforced: what to do when there are too many is a decision of its owner's.
    """

    def __init__(self, frames_max: int, bytes_max: int) -> None:
        self._frames_max = frames_max
        self._bytes_max = bytes_max
        self._payloads: dict[int, Payload] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._payloads)

    def __contains__(self, number: int) -> bool:
        return number in self._payloads

    def __repr__(self) -> str:
        return f"<Waiting {len(self)} frames, {self._bytes} bytes>"

    @property
    def bytes(self) -> int:
        """The size of all payloads."""
        return self._bytes

    @property
    def is_overfull(self) -> bool:
        return len(self._payloads) > self._frames_max or self._bytes > self._bytes_max

    @property
    def lowest(self) -> int:
        """The lowest number that waits; something must."""
        return min(self._payloads)

    def numbers(self) -> list[int]:
        """All that wait, in rising order."""
        return sorted(self._payloads)

    def get(self, number: int) -> Payload | None:
        """The batch of this number, if it waits."""
        return self._payloads.get(number)

    def keep(self, number: int, payload: Payload) -> None:
        """Keep a batch whose number does not wait yet."""
        assert number not in self._payloads
        self._payloads[number] = payload
        self._bytes += len(payload)

    def take(self, number: int) -> Payload:
        """Give up a batch that waits, to be applied."""
        payload = self._payloads.pop(number)
        self._bytes -= len(payload)
        return payload

    def clear(self) -> None:
        """Keep nothing any longer."""
        self._payloads.clear()
        self._bytes = 0


class Digests:
    """
    Digests of batches whose number may be heard a second time; beyond `count_max` the oldest are forgotten.
    """

    def __init__(self, count_max: int) -> None:
        self._count_max = count_max
        self._digests: dict[int, bytes] = {}

    def __contains__(self, number: int) -> bool:
        return number in self._digests

    def __len__(self) -> int:
        return len(self._digests)

    def note(self, number: int, payload: Payload) -> None:
        """Remember a batch."""
        self._digests[number] = digest(payload)
        if len(self._digests) > self._count_max:
            del self._digests[next(iter(self._digests))]

    def differs(self, number: int, payload: Payload) -> bool:
        """Whether this number was remembered with other bytes."""
        known = self._digests.get(number)
        return known is not None and known != digest(payload)

    def clear(self) -> None:
        """Forget all."""
        self._digests.clear()
