"""kvsync: `kvsync.Index`."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from benchmarks.frames import MODEL, Prompt, batches, engine, remove_events, store_events
from benchmarks.peers.side import Tokens
from benchmarks.sizes import BLOCK_SIZE
from kvsync.index import Index
from kvsync.types import Engine, Match


class Ours:
    """
    Takes vLLM's own frames: token ids are decoded and hashed inside the clock.
    """

    reads = "vLLM's msgpack frames, with token ids"
    agreed = False

    def __init__(self) -> None:
        self._index = Index(seed=1)

    def stores(self, prompts: Iterable[Prompt], an_event: int, a_batch: int) -> list[bytes]:
        return list(batches(store_events(prompts, an_event), a_batch))

    def removals(self, prompts: Iterable[Prompt], an_event: int, a_batch: int) -> list[bytes]:
        return list(batches(remove_events(prompts, an_event), a_batch))

    def tokens(self, tokens: Tokens) -> array[int]:
        return array("I", tokens.tobytes())

    def hashes(self, tokens: array[int]) -> array[int]:
        return self._index.block_hashes(tokens, model=MODEL, block_size=BLOCK_SIZE)

    def open(self) -> None:
        self.close()
        self._index = Index(seed=1)

    def close(self) -> None:
        self._index.close()

    def apply(self, engine_number: int, events: Sequence[bytes]) -> None:
        holder, apply = engine(engine_number), self._index.apply
        for frame in events:
            apply(holder, frame, model=MODEL)

    def match(self, tokens: array[int] | list[int]) -> Mapping[Engine, Match]:
        return self._index.match(tokens, model=MODEL)

    def walk(self, hashes: array[int]) -> Mapping[Engine, Match]:
        return self._index.match_hashes(hashes)

    def read(self, answer: Mapping[Engine, Match]) -> Mapping[int, int]:
        return {int(holder.pod.removeprefix("pod-")): match.blocks for holder, match in answer.items()}

    def forget(self, engine_number: int) -> None:
        self._index.clear(engine(engine_number))


class OursFromLists(Ours):
    """
    The same, asked with lists of ints.
    """

    def tokens(self, tokens: Tokens) -> Any:
        return tokens.tolist()
