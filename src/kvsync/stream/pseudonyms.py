"""
Keyed stand-ins for what a capture must not tell: equal values get equal ones, different values different ones.

Token ids are replaced by whole blocks. Were each replaced on its own, the capture would be a substitution cipher,
and how often each token occurs would give the commonest away; a block shows no more than where it occurs again.
A block is enciphered as one number, by a Feistel network of four rounds over a keyed hash: that is a permutation, so
that two blocks never meet, however short they are, and every bit of the stand-in depends on every token.
"""

from __future__ import annotations

from array import array
from hashlib import blake2b
from typing import Final

KEY_BYTES: Final = 32
DIGEST_BYTES_MAX: Final = 64
TEXT_BYTES_MAX: Final = 4096
TEXT_DIGEST_BYTES: Final = 12
NUMBER_BYTES: Final = 4
HASH_BYTES: Final = 8
BYTES_HASH_MIN: Final = 16
TOKEN_BYTES: Final = 4
FEISTEL_ROUNDS: Final = 4


class Pseudonyms:
    """
    Stand-ins by one key, of `KEY_BYTES` bytes; whoever has it can test guesses, and read the tokens.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def block(self, tokens: list[int]) -> list[int]:
        """The token ids of one block, each below 2**32, as one."""
        given = array("I", tokens).tobytes()
        half = len(given) // 2
        left, right = given[:half], given[half:]
        for round_ in range(FEISTEL_ROUNDS):
            mixed = self._stream(b"block%d" % round_, right, half)
            left, right = right, bytes(a ^ b for a, b in zip(left, mixed, strict=True))
        return array("I", left + right).tolist()

    def number_hash(self, engine_hash: int) -> int:
        """An engine hash of 64 bits, whichever sign it came with."""
        bits = (engine_hash & (1 << 64) - 1).to_bytes(HASH_BYTES, "big")
        return int.from_bytes(self._digest(b"hash", bits, HASH_BYTES), "big")

    def bytes_hash(self, engine_hash: bytes) -> bytes:
        """An engine hash of at most `DIGEST_BYTES_MAX` bytes, as long as it was, or longer: so that no two meet."""
        return self._digest(b"hash", engine_hash, max(len(engine_hash), BYTES_HASH_MIN)) if engine_hash else b""

    def text(self, text: str) -> str:
        """A name; none stays none, and one too long for the index stays too long."""
        size = len(text.encode(errors="surrogateescape"))
        if size > TEXT_BYTES_MAX:
            return "-" * size
        return self._digest(b"text", text.encode(errors="surrogateescape"), TEXT_DIGEST_BYTES).hex() if text else ""

    def data(self, data: bytes) -> bytes:
        """A name in bytes; none stays none."""
        return self._digest(b"bytes", data, min(len(data), DIGEST_BYTES_MAX)) if data else b""

    def number(self, number: int) -> int:
        """A number that stands for something, such as an adapter."""
        return int.from_bytes(self._digest(b"number", str(number).encode(), NUMBER_BYTES), "big")

    def anything(self, encoded: bytes) -> bytes:
        """Whatever else there is, by its encoding."""
        return self._digest(b"other", encoded, TEXT_DIGEST_BYTES)

    def _stream(self, kind: bytes, data: bytes, size: int) -> bytes:
        if size <= DIGEST_BYTES_MAX:
            return self._digest(kind, data, size)
        seed = self._digest(kind, data, DIGEST_BYTES_MAX)
        parts = range(-(-size // DIGEST_BYTES_MAX))
        return b"".join(blake2b(part.to_bytes(8, "big"), key=seed).digest() for part in parts)[:size]

    def _digest(self, kind: bytes, data: bytes, size: int) -> bytes:
        return blake2b(data, digest_size=size, key=self._key, person=kind).digest()
