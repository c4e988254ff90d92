"""
What our own picks will have put into an engine's cache before its events say so.

A pick enters here at once, so that a burst of prompts that begin alike finds the first one's pod although no event
has come yet. Block hashes are chained over context and tokens: where two prompts' hashes agree at one place they agree
at all places before it. So the common beginning of two prompts is found by halving, and a pick is kept as the one
array it came as.

A pick is dropped when its request ends without a first token (nothing was computed), a grace after its end (by then
the events have come, or will tell otherwise), when it expires, and when an engine has too many of them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from kvsync.types import Engine

EXPIRY = 60.0
GRACE = 2.0
PICKS_MAX = 512


@dataclass(slots=True)
class OwnPick:
    """One pick's prompt, believed to be in the engine's cache until `expires`."""

    block_hashes: Sequence[int]
    expires: float


class OwnPicks:
    """Recent picks by engine, the newest last. Not thread-safe; time is an argument."""

    def __init__(self, *, picks_max: int = PICKS_MAX) -> None:
        self._picks_max = picks_max
        self._picks: dict[Engine, deque[OwnPick]] = {}

    def __repr__(self) -> str:
        return f"<OwnPicks engines={len(self._picks)} picks={sum(map(len, self._picks.values()))}>"

    def add(self, engine: Engine, block_hashes: Sequence[int], now: float) -> OwnPick:
        """Enter a pick; what it gives back is for `settle`."""
        pick = OwnPick(block_hashes, now + EXPIRY)
        self._picks.setdefault(engine, deque(maxlen=self._picks_max)).append(pick)
        return pick

    def settle(self, pick: OwnPick, now: float, *, computed: bool) -> None:
        """The request is over: forget its pick at once if nothing was computed, else soon."""
        pick.expires = min(pick.expires, now + GRACE) if computed else now

    def blocks(self, engine: Engine, block_hashes: Sequence[int], now: float) -> int:
        """How many leading blocks of this prompt a live pick of the engine shares."""
        picks = self._picks.get(engine)
        if picks is None:
            return 0
        # From the old end only: a live pick keeps dead ones behind it a while, and `picks_max` bounds them.
        while picks and picks[0].expires <= now:
            picks.popleft()
        longest = 0
        for pick in picks:
            if pick.expires > now and _agree(pick.block_hashes, block_hashes, longest):
                longest = common_blocks(pick.block_hashes, block_hashes)
        return longest

    def forget(self, engine: Engine) -> None:
        """The engine's cache was emptied, or it is gone."""
        self._picks.pop(engine, None)


def common_blocks(left: Sequence[int], right: Sequence[int]) -> int:
    """How many leading hashes of two chains agree."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[middle - 1] == right[middle - 1]:
            low = middle
        else:
            high = middle - 1
    return low


def _agree(left: Sequence[int], right: Sequence[int], place: int) -> bool:
    return place < len(left) and place < len(right) and left[place] == right[place]
