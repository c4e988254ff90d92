"""
Captures that can be handed on: what prompts said is hidden, how they relate is not.

The token ids of a block are replaced as one, engine hashes and names (adapters, salts, images, sessions) one by one, by
keyed values: equal ones by equal ones, different ones by different ones. So prefixes stay prefixes, block by block,
parents stay parents, copies stay copies, and an index does with a redacted capture what it would have done with the
original. The key is drawn for each redactor and kept nowhere. Engine hashes are hidden too, as engines with a known
seed let anybody who guesses a prompt check it against them.

What still shows: which blocks are equal, also under different salts and adapters, and how often each occurs. So
the smaller the blocks the more shows; with blocks of one token (SGLang's page size 1) it is how often each token
occurs. Numbers, times, sizes, media, groups and topics are not hidden either. Blocks of different sizes have nothing
in common any longer, even if their tokens had.

Fields and events that nobody knows lose their values, and so do token ids that belong to no block; a payload that
cannot be decoded is replaced by one that cannot either.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from hashlib import blake2b
from typing import Any, Final, TypeAlias

import msgpack

from kvsync.stream.frames import NUMBER_BYTES, REPLAY_FRAMES, Frames
from kvsync.stream.pseudonyms import DIGEST_BYTES_MAX, KEY_BYTES, TOKEN_BYTES, Pseudonyms

UNDECODABLE: Final = b"\xc1"
"""The one byte that msgpack never uses."""

STORED: Final = "BlockStored"
REMOVED: Final = "BlockRemoved"

STORED_FIELDS: Final = (
    "type", "block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium", "lora_name",
    "extra_keys", "group_idx", "kv_cache_spec_kind", "kv_cache_spec_sliding_window",
)  # fmt: skip
REMOVED_FIELDS: Final = ("type", "block_hashes", "medium", "group_idx")
PLAIN_FIELDS: Final = frozenset(
    {"type", "block_size", "medium", "group_idx", "kv_cache_spec_kind", "kv_cache_spec_sliding_window", "locality"}
)
BATCH_FIELDS: Final = ("ts", "events", "data_parallel_rank")
DEPTH_MAX: Final = 32
TOKEN_END: Final = 1 << 8 * TOKEN_BYTES

Hide: TypeAlias = Callable[[Any], Any]


def _wrong() -> dict[str, Any]:
    """In place of a value of the wrong type: no field takes a map, so an event that did not apply still does not."""
    return {}


class Redactor:
    """
    Rewrites payloads with one key: what was equal in any of them stays equal.

    Give `key` only to redact several captures alike; whoever has it can read them.
    """

    def __init__(self, key: bytes | None = None) -> None:
        derived = secrets.token_bytes(KEY_BYTES) if key is None else blake2b(key, digest_size=KEY_BYTES).digest()
        self._pseudonyms = Pseudonyms(derived)
        self._hidden: Mapping[str, Hide] = {
            "block_hashes": self._hashes,
            "parent_block_hash": self._hash,
            "lora_id": self._name,
            "lora_name": self._name,
            "cache_salt": self._name,
            "session_id": self._name,
            "ownership": self._name,
            "extra_keys": self._extra_keys,
        }

    def frames(self, frames: Frames) -> list[bytes]:
        """Redact one message of either channel: its last frame, unless it is an end marker."""
        if not frames:
            return []
        *before, payload = (bytes(frame) for frame in frames)
        if len(frames) not in REPLAY_FRAMES or len(before[-1]) != NUMBER_BYTES or any(before[:-2]):
            # Of a message of no known shape, every frame may be the payload.
            before = [UNDECODABLE if len(frame) > NUMBER_BYTES else frame for frame in before]
        return [*before, self.payload(payload) if payload else payload]

    def payload(self, payload: bytes) -> bytes:
        """Redact one event batch."""
        try:
            batch = msgpack.unpackb(payload, raw=False, strict_map_key=False, unicode_errors="surrogateescape")
            return _pack(self._batch(batch))
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
            # A key that is no text names nothing, and is only counted.
            fields = {
                name if isinstance(name, str) else place: value for place, (name, value) in enumerate(event.items())
            }
            return {name: self._field(name, fields) for name in fields}
        if isinstance(event, list) and event and isinstance(event[0], str):
            names = {STORED: STORED_FIELDS, REMOVED: REMOVED_FIELDS}.get(event[0], ("type",))
            fields = dict(zip(names, event, strict=False))
            return [*(self._field(name, fields) for name in fields), *map(_drop, event[len(names) :])]
        return None

    def _field(self, name: Any, fields: Mapping[Any, Any]) -> Any:
        value = fields[name]
        if value is None:
            return None
        if name in PLAIN_FIELDS:
            return value if isinstance(value, str | int) else _wrong()
        if name == "token_ids":
            return self._tokens(value, fields.get("block_size"))
        hide = self._hidden.get(name)
        return _drop(value) if hide is None else hide(value)

    # ------------------------------------------------------------------ fields

    def _tokens(self, tokens: Any, block_size: Any) -> Any:
        if not isinstance(tokens, list):
            return _wrong()
        # Also where hashes are left out, the tokens are whole blocks; without a size there is no block to tell.
        size = block_size if isinstance(block_size, int) and block_size > 0 else max(len(tokens), 1)
        return [token for start in range(0, len(tokens), size) for token in self._block(tokens[start : start + size])]

    def _block(self, tokens: list[Any]) -> list[Any]:
        # EAGLE sends pairs of a token and the one after it, which the index does not read: it goes.
        firsts = [token[0] if _is_pair(token) else token for token in tokens]
        hidden = self._pseudonyms.block([token if _is_token(token) else 0 for token in firsts])
        # An event that did not apply still does not, for the same reason.
        kept = [
            stand_in if _is_token(first) else -1 if _is_integer(first) else None
            for first, stand_in in zip(firsts, hidden, strict=True)
        ]
        return [[stand_in, 0] if _is_pair(token) else stand_in for token, stand_in in zip(tokens, kept, strict=True)]

    def _hashes(self, hashes: Any) -> Any:
        return [self._hash(engine_hash) for engine_hash in hashes] if isinstance(hashes, list) else _wrong()

    def _hash(self, engine_hash: Any) -> Any:
        match engine_hash:
            case bytes() if len(engine_hash) <= DIGEST_BYTES_MAX:
                return self._pseudonyms.bytes_hash(engine_hash)
            case int() if not isinstance(engine_hash, bool):
                return self._pseudonyms.number_hash(engine_hash)
        return _wrong()

    def _name(self, name: Any) -> Any:
        match name:
            case str():
                return self._pseudonyms.text(name)
            case bytes():
                return self._pseudonyms.data(name)
            case int() if not isinstance(name, bool):
                return self._pseudonyms.number(name)
        return _wrong()

    def _extra_keys(self, blocks: Any) -> Any:
        if not isinstance(blocks, list):
            return _wrong()
        return [
            [self._extra(extra) for extra in extras]
            if isinstance(extras, list)
            else None
            if extras is None
            else _wrong()
            for extras in blocks
        ]

    def _extra(self, extra: Any) -> Any:
        match extra:
            case str() | bytes():
                return self._name(extra)
            case [str() | bytes() as name, int(place)] if not isinstance(place, bool):
                return [self._name(name), place]  # where in the prompt an image lies
        return {"hidden": self._pseudonyms.anything(_pack(extra))}  # what no query can ask for, as before


def _drop(value: Any) -> Any:
    """What nobody knows says no more than whether it is nested deeper than the index allows."""
    return _TOO_DEEP if _depth(value) >= DEPTH_MAX else None


def _depth(value: Any) -> int:
    if not isinstance(value, list | dict):
        return 0
    return 1 + max(map(_depth, value.values() if isinstance(value, dict) else value), default=0)


def _nest(levels: int) -> list[Any]:
    return [_nest(levels - 1)] if levels else []


def _pack(value: Any) -> bytes:
    return bytes(msgpack.packb(value, use_bin_type=True, unicode_errors="surrogateescape"))


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_token(token: Any) -> bool:
    return _is_integer(token) and 0 <= token < TOKEN_END


def _is_pair(token: Any) -> bool:
    return isinstance(token, list) and len(token) == 2 and _is_integer(token[1])


def _number_or_nil(value: Any) -> Any:
    return value if isinstance(value, int | float) else None


_TOO_DEEP: Final = _nest(DEPTH_MAX)
