"""
What the simulated engine answers: printable text that depends on the seed and the prompt alone.

Equal prompts get equal answers, on any rank and after any preemption, so the next turn of a conversation
has the tokens that the cache holds.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b

# 256 entries, so that any byte picks one; about every fifth is a space, as in prose.
_ALPHABET = b"etaoinshrdlucmfwypvbgkjqxz" * 8 + b" " * 48
_CHUNK = 64


class Answer:
    """
    The tokens of one answer, produced as far as they are asked for.

    `length` is how many tokens it has when left to itself, its end mark included; without a mark (`end`
    None) it never ends.
    """

    __slots__ = ("_end", "_key", "_text", "length")

    def __init__(self, prompt: array[int], *, seed: int, salt: str, length_mean: int, end: int | None) -> None:
        state = blake2b(digest_size=32, key=seed.to_bytes(8, "big", signed=True))
        state.update(salt.encode("utf-8", "backslashreplace") + b"\0")
        state.update(prompt)
        self._key = state.digest()
        self._text = b""
        self._end = end
        # Between half and one and a half times the mean.
        drawn = max(1, length_mean // 2 + int.from_bytes(self._key[:4], "big") % (length_mean + 1))
        self.length = None if end is None else drawn

    def token(self, position: int) -> int:
        """Give the token at `position`: text, and at the last the end mark."""
        if self._end is not None and self.ends_at(position):
            return self._end
        while position >= len(self._text):
            self._text += self._chunk(len(self._text) // _CHUNK)
        return self._text[position]

    def ends_at(self, position: int) -> bool:
        return self.length is not None and position >= self.length - 1

    def _chunk(self, number: int) -> bytes:
        return blake2b(number.to_bytes(8, "big"), digest_size=_CHUNK, key=self._key).digest().translate(_ALPHABET)
