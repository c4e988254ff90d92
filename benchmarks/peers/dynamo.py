"""NVIDIA Dynamo: `dynamo.llm.RadixTree`, of the package ai-dynamo-runtime."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from benchmarks.frames import Prompt
from benchmarks.peers.side import Tokens
from benchmarks.sizes import BLOCK_SIZE


class Dynamo:
    """
    Takes events in its own JSON, one a call, whose blocks are hashed before: that is done outside the clock.

    A second engine that holds the same block under another hash of its own is not understood ("Failed to find parent
    block"), so its engines are given hashes that agree.
    """

    reads = "its own JSON events, block hashes given"
    agreed = True

    def __init__(self) -> None:
        self._llm: Any = importlib.import_module("dynamo.llm")
        self._tree = self._llm.RadixTree()

    def stores(self, prompts: Iterable[Prompt], an_event: int, a_batch: int) -> list[bytes]:
        return [_event("stored", event) for one in prompts for event in self._stores(one, an_event)]

    def _stores(self, one: Prompt, an_event: int) -> Iterator[Any]:
        local = self.hashes(one.tokens.tolist())
        for first in range(0, len(local), an_event):
            pairs = zip(one.hashes[first : first + an_event], local[first : first + an_event], strict=True)
            yield {
                "parent_hash": one.hashes[first - 1] if first else None,
                "blocks": [{"block_hash": name, "tokens_hash": tokens} for name, tokens in pairs],
            }

    def removals(self, prompts: Iterable[Prompt], an_event: int, a_batch: int) -> list[bytes]:
        made: list[bytes] = []
        for one in prompts:
            backwards = list(reversed(one.hashes))
            made += [
                _event("removed", {"block_hashes": backwards[first : first + an_event]})
                for first in range(0, len(backwards), an_event)
            ]
        return made

    def tokens(self, tokens: Tokens) -> list[int]:
        return [int(token) for token in tokens]

    def hashes(self, tokens: list[int]) -> list[int]:
        hashes: list[int] = self._llm.compute_block_hash_for_seq(tokens, BLOCK_SIZE)
        return hashes

    def open(self) -> None:
        self._tree = self._llm.RadixTree()

    def close(self) -> None:
        self.open()

    def apply(self, engine: int, events: Sequence[bytes]) -> None:
        apply = self._tree.apply_event
        for event in events:
            apply(engine, event)

    def match(self, tokens: list[int]) -> Any:
        return self._tree.find_matches(self.hashes(tokens))

    def walk(self, hashes: list[int]) -> Any:
        return self._tree.find_matches(hashes)

    def read(self, answer: Any) -> Mapping[int, int]:
        return {worker: blocks for (worker, _rank), blocks in answer.scores.items()}

    def forget(self, engine: int) -> None:
        self._tree.clear_all_blocks(engine)
        # Its calls go to a thread of its own: one that answers has them behind it.
        self._tree.find_matches([0])


def _event(kind: str, what: Any) -> bytes:
    return json.dumps({"event_id": 0, "data": {kind: what}, "dp_rank": 0}).encode()
