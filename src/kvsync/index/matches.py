"""
The answer to a match: a mapping over one C buffer, whose values are made when looked at.

A thousand Python objects would cost more than the walk that found them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from kvsync._core import ffi, lib
from kvsync.types import Engine, Match, Trust

TRUST_BY_NUMBER = {
    lib.KVS_TRUST_EXACT: Trust.EXACT,
    lib.KVS_TRUST_PARTIAL: Trust.PARTIAL,
    lib.KVS_TRUST_STALE: Trust.STALE,
    lib.KVS_TRUST_UNKNOWN: Trust.UNKNOWN,
}


class Matches(Mapping[Engine, Match]):
    """
    Engine -> Match, holders only, as of one moment; read-only.

    `engines` is the index's list of engines by number, which only ever grows.
    """

    __slots__ = ("_engines", "_matches", "_medium_name", "_rows")

    def __init__(self, matches: Any, engines: Sequence[Engine], medium_name: Callable[[int], str]) -> None:
        self._matches = ffi.gc(matches, lib.kvs_matches_free)
        self._engines = engines
        self._medium_name = medium_name
        self._rows: dict[Engine, int] | None = None

    def __len__(self) -> int:
        return int(self._matches.rows_count)

    def __iter__(self) -> Iterator[Engine]:
        return iter(self._by_engine())

    def __contains__(self, engine: object) -> bool:
        return engine in self._by_engine()

    def __getitem__(self, engine: Engine) -> Match:
        row = self._matches.rows[self._by_engine()[engine]]
        media = self._matches.media[row.media_at : row.media_at + row.media_count]
        return Match(
            blocks=row.blocks,
            tokens=row.tokens,
            by_medium={self._medium_name(place.medium): place.blocks for place in media},
            certain=bool(row.certain),
            trust=TRUST_BY_NUMBER[row.trust],
            trust_by_medium={self._medium_name(place.medium): TRUST_BY_NUMBER[place.trust] for place in media},
        )

    def __repr__(self) -> str:
        return f"<Matches of {len(self)} engines>"

    def _by_engine(self) -> dict[Engine, int]:
        if self._rows is None:
            rows = self._matches.rows
            self._rows = {self._engines[rows[i].engine]: i for i in range(self._matches.rows_count)}
        return self._rows


def _nobody() -> Matches:
    answer = Matches.__new__(Matches)
    answer._matches, answer._engines, answer._medium_name, answer._rows = ffi.new("kvs_matches *"), (), str, {}
    return answer


NOBODY = _nobody()
"""The answer where no engine holds anything, always the same one: it is the most frequent, and has nothing to free."""
