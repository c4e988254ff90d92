"""
Captures one may pass on: the stream's shape and meaning stay, the users' text goes.

Each block of token ids becomes other token ids, made from the block with a secret that is forgotten at the end of the
run: equal blocks stay equal, so a redacted capture replays to the same dump and the same sharing, and nobody can ask
what a block said. Salts, image identifiers and session names become pseudonyms in the same way. Engine hashes, LoRA
names, sizes and times stay. (Where an engine hashes with a seed that others know, its hashes let somebody who guesses
a text exactly confirm the guess.) A payload that cannot be read cannot be redacted: one undecodable byte takes its
place, which the index treats as it treats the original.
"""

from __future__ import annotations

import secrets
from array import array
from collections.abc import Mapping
from hashlib import blake2b
from typing import Any

from kvsync.cli.eventview import POSITIONS, fields_of, pack, unpack

UNDECODABLE = b"\xc1"
"""No msgpack value begins with this byte."""

# Small enough for every vocabulary, large enough that the ids look like what they are not.
_VOCABULARY = 32_000


class Redactor:
    """
    Rewrites payloads; equal inputs of one redactor give equal outputs, those of two have nothing in common.
    """

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = secret if secret is not None else secrets.token_bytes(32)

    def payload(self, payload: bytes) -> bytes:
        """Redact one event batch."""
        try:
            batch = unpack(payload)
        except ValueError:
            return UNDECODABLE
        if isinstance(batch, dict) and isinstance(batch.get("events"), list):
            return pack({name: self._batch_field(name, value) for name, value in batch.items()})
        if isinstance(batch, list) and len(batch) >= 2 and isinstance(batch[1], list):
            names = [*_BATCH, *range(len(_BATCH), len(batch))]
            return pack([self._batch_field(name, value) for name, value in zip(names, batch, strict=False)])
        return UNDECODABLE

    def _batch_field(self, name: object, value: Any) -> Any:
        if name == "events":
            return [self._event(event) for event in value]
        return value if isinstance(value, (int, float)) else None

    def _event(self, event: Any) -> Any:
        found = fields_of(event)
        if found is None:
            return None  # neither an array nor a map: as undecodable as what it was
        tag, fields = found
        if tag not in POSITIONS:
            fields = {"type": tag}
        redacted = {name: self._field(name, value, fields) for name, value in fields.items()}
        return list(redacted.values()) if isinstance(event, list) else redacted

    def _field(self, name: str, value: Any, fields: Mapping[str, Any]) -> Any:
        match name:
            case "token_ids":
                return self._tokens(value, fields.get("block_size"))
            case "extra_keys" | "cache_salt" | "session_id":
                return self._texts(value, keep=fields.get("lora_name"))
            case "block_hashes" if isinstance(value, list):
                return [item if isinstance(item, (int, bytes)) else None for item in value]
            case _:
                # What a later release sends, nobody here can judge: its name stays, its value goes.
                return value if name in _HARMLESS and not isinstance(value, (list, dict)) else None

    def _tokens(self, value: Any, block_size: Any) -> Any:
        if not isinstance(value, list):
            return None if isinstance(value, (str, bytes)) else value
        size = block_size if isinstance(block_size, int) and block_size > 0 else max(len(value), 1)
        return [token for start in range(0, len(value), size) for token in self._block(value[start : start + size])]

    def _block(self, tokens: list[Any]) -> list[Any]:
        stream = array("I")
        state = blake2b(repr(tokens).encode("utf-8", "surrogateescape"), key=self._secret, digest_size=32).digest()
        while len(stream) < 2 * len(tokens):
            stream.frombytes(blake2b(len(stream).to_bytes(8, "big"), key=state).digest())
        # Whatever makes an event undecodable, or a pair of tokens, stays that.
        return [
            [stream[2 * n] % _VOCABULARY, stream[2 * n + 1] % _VOCABULARY]
            if isinstance(token, list) and len(token) == 2
            else stream[2 * n] % _VOCABULARY
            if isinstance(token, int) and not isinstance(token, bool) and 0 <= token < 2**32
            else token
            if isinstance(token, int)
            else None
            for n, token in enumerate(tokens)
        ]

    def _texts(self, value: Any, *, keep: Any) -> Any:
        match value:
            case str() if value == keep:
                return value
            case str() if value:
                return f"redacted-{self._digest(value.encode('utf-8', 'surrogateescape'))}"
            case bytes() if value:
                return bytes.fromhex(self._digest(value))
            case list():
                return [self._texts(item, keep=keep) for item in value]
            case dict():
                return {key: self._texts(item, keep=keep) for key, item in value.items()}
            case _:
                return value

    def _digest(self, value: bytes) -> str:
        return blake2b(value, key=self._secret, digest_size=16).hexdigest()


_BATCH = ("ts", "events", "data_parallel_rank")

_HARMLESS = frozenset(
    {
        "type", "block_hashes", "parent_block_hash", "block_size", "lora_id", "medium", "lora_name", "group_idx",
        "kv_cache_spec_kind", "kv_cache_spec_sliding_window", "locality", "ownership",
    }
)  # fmt: skip
