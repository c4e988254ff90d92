"""
A question over HTTP: `kvsync serve` in a process of its own, a kept connection on loopback, the whole round trip.

Raw is a body of little-endian uint32 token ids; JSON is what most clients send, and most of its time is its parsing,
which stands beside it.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable

from benchmarks.checks import expect
from benchmarks.clock import Timed
from benchmarks.frames import MODEL, generator, tokens_of
from benchmarks.peers.outside import QUESTION_BLOCKS, questions
from benchmarks.peers.services import OurService
from benchmarks.sizes import BLOCK_SIZE
from kvsync.serve.requests import Prompt, read_json, read_octets

BODIES = ("raw", "JSON")


class Query:
    """
    Microseconds of a question, the median of a second's, asked of a daemon whose one engine holds all of it.
    """

    params = (list(BODIES), list(QUESTION_BLOCKS))
    param_names = ("body", "blocks")
    unit = "us"
    timeout = 300.0

    def setup_cache(self) -> dict[str, float]:
        """One daemon for all questions."""
        return {figure.row: figure.value for figure in questions(OurService())}

    setup_cache.timeout = 300.0  # type: ignore[attr-defined]

    def track_p50(self, laps: dict[str, float], body: str, blocks: int) -> float:
        """From the request's first byte to the answer's last, read as JSON."""
        return laps[f"HTTP query, {blocks:,} blocks, {body}"]


class Parse(Timed):
    """
    Seconds to make token ids of a body of `walk_blocks` blocks: the daemon's own function, without the daemon.
    """

    params = (list(BODIES),)
    param_names = ("body",)

    def setup(self, body: str) -> None:
        """The body, its reading checked."""
        tokens = tokens_of(generator(26), max(QUESTION_BLOCKS))
        self.most = len(tokens)
        self.body = (
            tokens.astype("<u4").tobytes()
            if body == "raw"
            else json.dumps({"model": MODEL, "token_ids": tokens.tolist()}).encode()
        )
        self.read: Callable[[], Prompt] = self._raw if body == "raw" else self._json
        expect("blocks read", len(self.read().tokens) // BLOCK_SIZE, max(QUESTION_BLOCKS))
        expect("token ids", array("I", self.read().tokens), array("I", tokens.tobytes()))

    def _raw(self) -> Prompt:
        return read_octets(self.body, {"model": MODEL}, tokens_max=self.most)

    def _json(self) -> Prompt:
        return read_json(self.body, tokens_max=self.most)

    def time_parse(self, body: str) -> None:
        """One body."""
        self.read()
