"""
Captures that can be handed on: what prompts said is hidden, how they relate is not.

Token ids, engine hashes, and the names in extra keys (adapters, salts, images), sessions and adapters are replaced by
keyed values: equal ones by equal ones, different ones by different ones. So prefixes stay prefixes, parents stay
parents, copies stay copies, and an index does with a redacted capture what it would have done with the original.
The key is drawn for each redactor and kept nowhere. Engine hashes are hidden too, as engines with a known seed
let anybody who guesses a prompt check it against them.

What is not hidden: how often a token occurs, numbers, times, sizes, media, groups, and topics. Fields and events
that nobody knows lose their values, and a payload that cannot be decoded is replaced by one that cannot either.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, Final, TypeAlias

import msgpack

from kvsync.stream.frames import Frames

UNDECODABLE: Final = b"\xc1"
"""The one byte that msgpack never uses."""

KEY_BYTES: Final = 32
DIGEST_BYTES_MAX: Final = 64
TEXT_DIGEST_BYTES: Final = 12
TOKEN_BITS: Final = 32
HASH_BYTES: Final = 8
TOKENS_REMEMBERED_MAX: Final = 1 << 20
FEISTEL_ROUNDS: Final = 4

STORED: Final = "BlockStored"
REMOVED: Final = "BlockRemoved"
CLEARED: Final = "AllBlocksCleared"

STORED_FIELDS: Final = (
    "type", "block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium", "lora_name",
    "extra_keys", "group_idx", "kv_cache_spec_kind", "kv_cache_spec_sliding_window",
)  # fmt: skip
REMOVED_FIELDS: Final = ("type", "block_hashes", "medium", "group_idx")
PLAIN_FIELDS: Final = frozenset(
    {"type", "block_size", "medium", "group_idx", "kv_cache_spec_kind", "kv_cache_spec_sliding_window", "locality"}
)
BATCH_FIELDS: Final = ("ts", "events", "data_parallel_rank")

Hide: TypeAlias = Callable[[Any], Any]


class Redactor:
    """
    Rewrites payloads with one key: what was equal in any of them stays equal.

    Give `key` only to redact several captures alike; whoever has it can test guesses.
    """

    def __init__(self, key: bytes | None = None) -> None:
        self._key = secrets.token_bytes(KEY_BYTES) if key is None else blake2b(key, digest_size=KEY_BYTES).digest()
        self._tokens: dict[int, int] = {}
        self._hidden: Mapping[str, Hide] = {
            "block_hashes": self._each(self._hash),
            "parent_block_hash": self._hash,
            "token_ids": self._each(self._token),
            "lookahead_token_ids": self._each(self._token),
            "lora_id": self._name,
            "lora_name": self._name,
            "cache_salt": self._name,
            "session_id": self._name,
            "ownership": self._name,
            "extra_keys": self._extra,
        }

    def frames(self, frames: Frames) -> list[bytes]:
        """Redact one message of either channel: its last frame, unless it is an end marker."""
        if not frames:
            return []
        *before, payload = (bytes(frame) for frame in frames)
        return [*before, self.payload(payload) if payload else payload]

    def payload(self, payload: bytes) -> bytes:
        """Redact one event batch."""
        try:
            batch = msgpack.unpackb(payload, raw=False, strict_map_key=False, unicode_errors="surrogateescape")
            return bytes(msgpack.packb(self._batch(batch), use_bin_type=True, unicode_errors="surrogateescape"))
        except (ValueError, TypeError, OverflowError, RecursionError, msgpack.UnpackException):
            return UNDECODABLE

    # ------------------------------------------------------------------ structure

    def _batch(self, batch: Any) -> Any:
        if isinstance(batch, list) and len(batch) >= 2:
            rank = [_number_or_nil(field) for field in batch[2:]]
            return [_number_or_nil(batch[0]), self._events(batch[1]), *rank]
        if isinstance(batch, dict) and "events" in batch:
            return {
                name: self._events(value) if name == "events" else _number_or_nil(value)
                for name, value in batch.items()
                if name in BATCH_FIELDS
            }
        raise ValueError("not an event batch")

    def _events(self, events: Any) -> list[Any]:
        if not isinstance(events, list):
            raise TypeError("events are not a list")
        return [self._event(event) for event in events]

    def _event(self, event: Any) -> Any:
        if isinstance(event, dict):
            return {name: self._field(name, value) for name, value in event.items() if isinstance(name, str)}
        if isinstance(event, list) and event and isinstance(event[0], str):
            names = {STORED: STORED_FIELDS, REMOVED: REMOVED_FIELDS}.get(event[0], ("type",))
            rest = [None] * max(0, len(event) - len(names))
            return [*(self._field(name, value) for name, value in zip(names, event, strict=False)), *rest]
        return None

    def _field(self, name: str, value: Any) -> Any:
        if value is None:
            return None
        if name in PLAIN_FIELDS:
            return value if isinstance(value, str | int) else None
        hide = self._hidden.get(name)
        return None if hide is None else hide(value)

    def _extra(self, value: Any) -> Any:
        """Names at any depth; the numbers beside them are places in the prompt, and stay."""
        if isinstance(value, list):
            return [self._extra(item) for item in value]
        if isinstance(value, str | bytes):
            return self._name(value)
        return _number_or_nil(value)

    def _each(self, hide: Hide) -> Hide:
        def hide_all(value: Any) -> Any:
            return [hide(item) for item in value] if isinstance(value, list) else hide(value)

        return hide_all

    # ------------------------------------------------------------------ values

    def _token(self, token: Any) -> Any:
        if isinstance(token, list):  # EAGLE sends pairs
            return [self._token(item) for item in token]
        if not isinstance(token, int) or isinstance(token, bool) or not 0 <= token < 1 << TOKEN_BITS:
            return None
        known = self._tokens.get(token)
        if known is None:
            known = self._permute(token)
            if len(self._tokens) < TOKENS_REMEMBERED_MAX:
                self._tokens[token] = known
        return known

    def _permute(self, token: int) -> int:
        # A plain keyed hash to 32 bits would let two of a vocabulary's 150,000 tokens meet. A Feistel network
        # over it is a permutation: different tokens stay different.
        left, right = token >> 16, token & 0xFFFF
        for round_ in range(FEISTEL_ROUNDS):
            mixed = int.from_bytes(self._digest(b"token", bytes([round_]) + right.to_bytes(2, "big"), 2), "big")
            left, right = right, left ^ mixed
        return left << 16 | right

    def _hash(self, engine_hash: Any) -> Any:
        if isinstance(engine_hash, bytes):
            size = min(len(engine_hash), DIGEST_BYTES_MAX)
            return self._digest(b"hash", engine_hash, size) if size else b""
        if isinstance(engine_hash, int) and not isinstance(engine_hash, bool):
            # The low 64 bits are the hash, whichever sign it came with.
            bits = (engine_hash & (1 << 64) - 1).to_bytes(HASH_BYTES, "big")
            return int.from_bytes(self._digest(b"hash", bits, HASH_BYTES), "big")
        return None

    def _name(self, name: Any) -> Any:
        if isinstance(name, str):
            return self._digest(b"text", name.encode(errors="surrogateescape"), TEXT_DIGEST_BYTES).hex() if name else ""
        if isinstance(name, bytes):
            return self._digest(b"bytes", name, min(max(len(name), 1), DIGEST_BYTES_MAX))
        if isinstance(name, int) and not isinstance(name, bool):
            return int.from_bytes(self._digest(b"number", str(name).encode(), 4), "big")
        return None

    def _digest(self, kind: bytes, data: bytes, size: int) -> bytes:
        return blake2b(data, digest_size=size, key=self._key, person=kind).digest()


def _number_or_nil(value: Any) -> Any:
    return value if isinstance(value, int | float) else None
