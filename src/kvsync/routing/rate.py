"""
How fast engines of a model prefill, learned from requests that were seen through.

One rate for all engines of a model: were each engine given its own, chance differences between equal ones would send
every request to the one that was lucky last.
"""

from __future__ import annotations

RATE_DEFAULT = 20_000.0
RATE_MIN, RATE_MAX = 10.0, 10_000_000.0
TOKENS_MIN = 128
"""A shorter prefill tells more about the network than about the engine."""

MEMORY = 0.98
"""What an observation keeps of its weight with each one after it."""

DOUBT_SECONDS = 0.02
"""How much prefill the default counts for: next to nothing, since engines differ a hundredfold."""


class PrefillRate:
    """
    Tokens a second: `fixed` if the operator knows it, else learned, beginning at 20,000.
    """

    def __init__(self, fixed: float | None = None) -> None:
        self._fixed = fixed
        self._tokens, self._seconds = RATE_DEFAULT * DOUBT_SECONDS, DOUBT_SECONDS
        self._is_observed = False

    def __repr__(self) -> str:
        return f"<PrefillRate {self.tokens_per_second:.0f}/s {'fixed' if self._fixed else 'learned'}>"

    @property
    def tokens_per_second(self) -> float:
        if self._fixed is not None:
            return self._fixed
        return min(max(self._tokens / self._seconds, RATE_MIN), RATE_MAX)

    def guess(self, tokens: int, seconds: float) -> None:
        """
        A first token came: an engine seems to have computed `tokens` in `seconds`, by what was predicted to be cached.

        It counts until something is observed. An answer may take half a minute to its end; so long, on engines that
        are slower than the default, queues would seem to drain faster than they do.
        """
        if not self._is_observed:
            self._add(tokens, seconds)

    def observe(self, tokens: int, seconds: float) -> None:
        """
        An engine computed `tokens` in `seconds`, counted from when it was done with what was queued before.

        Prompts that are computed together seem to take all of the time or none of it; their sum is right.
        """
        self._is_observed = self._add(tokens, seconds) or self._is_observed

    def _add(self, tokens: int, seconds: float) -> bool:
        if tokens < TOKENS_MIN or seconds < 0:
            return False
        self._tokens = self._tokens * MEMORY + tokens
        self._seconds = self._seconds * MEMORY + seconds
        return True
