"""What anybody would write first: two dicts, msgpack and Python's own hash; for scale."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgpack

from benchmarks.frames import Prompt, batches, remove_events, store_events
from benchmarks.peers.side import Tokens
from benchmarks.sizes import BLOCK_SIZE


class Plain:
    """
    Block hash -> engines that hold it, and engine hash -> block hash for each engine. No copies, media or trust.
    """

    reads = "vLLM's msgpack frames, with token ids"
    agreed = False

    def __init__(self) -> None:
        self._holders: dict[int, set[int]] = {}
        self._blocks: dict[int, dict[int, int]] = {}

    def stores(self, prompts: Iterable[Prompt], an_event: int, a_batch: int) -> list[bytes]:
        return list(batches(store_events(prompts, an_event), a_batch))

    def removals(self, prompts: Iterable[Prompt], an_event: int, a_batch: int) -> list[bytes]:
        return list(batches(remove_events(prompts, an_event), a_batch))

    def tokens(self, tokens: Tokens) -> list[int]:
        return [int(token) for token in tokens]

    def hashes(self, tokens: Sequence[int]) -> list[int]:
        return _chain(0, tokens, BLOCK_SIZE)

    def open(self) -> None:
        self._holders, self._blocks = {}, {}

    def close(self) -> None:
        self.open()

    def apply(self, engine: int, events: Sequence[bytes]) -> None:
        blocks = self._blocks.setdefault(engine, {})
        for frame in events:
            for event in msgpack.unpackb(frame)[1]:
                if event[0] == "BlockStored":
                    _tag, hashes, parent, tokens, size, *_rest = event
                    for name, block in zip(hashes, _chain(blocks.get(parent, 0), tokens, size), strict=True):
                        blocks[name] = block
                        self._holders.setdefault(block, set()).add(engine)
                else:
                    for name in event[1]:
                        self._drop(engine, blocks.pop(name))

    def match(self, tokens: Sequence[int]) -> Mapping[int, int]:
        return self.walk(self.hashes(tokens))

    def walk(self, hashes: Sequence[int]) -> Mapping[int, int]:
        found: dict[int, int] = {}
        still: set[int] | None = None
        for depth, block in enumerate(hashes):
            holders = self._holders.get(block, set())
            gone = set() if still is None else still - holders
            still = set(holders) if still is None else still & holders
            found |= dict.fromkeys(gone, depth)
            if not still:
                return found
        return found | dict.fromkeys(still or (), len(hashes))

    def read(self, answer: Mapping[int, int]) -> Mapping[int, int]:
        return answer

    def forget(self, engine: int) -> None:
        for block in self._blocks.pop(engine).values():
            self._drop(engine, block)

    def _drop(self, engine: int, block: int) -> None:
        holders = self._holders[block]
        holders.discard(engine)
        if not holders:
            del self._holders[block]


def _chain(parent: int, tokens: Sequence[int], size: int) -> list[int]:
    hashes = []
    for first in range(0, len(tokens) // size * size, size):
        parent = hash((parent, tuple(tokens[first : first + size])))
        hashes.append(parent)
    return hashes
