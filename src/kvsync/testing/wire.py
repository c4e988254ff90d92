"""
Write event batches in every form that engines have sent them, from plain values.

Kept apart from the simulated engine's writer, so that one can be held against the other. A form says which
fields a release has; what an event carries beyond them is not written, as an older engine could not have.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeAlias

import msgpack

from kvsync.types import GPU, EngineHash

BlockExtras: TypeAlias = tuple[Any, ...]
"""Extra keys of one block: the LoRA name, `(identifier, offset)` of images, the salt."""

NOTHING: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Stored:
    """
    Blocks that came to be held: whole ones after `parent`, or, without tokens, a note of where hashes lie.

    `pairs` writes tokens as EAGLE does, each with its successor. `unknown` are fields nobody knows: under their
    names in a map, appended in an array of the longest form.
    """

    hashes: tuple[EngineHash, ...]
    parent: EngineHash | None = None
    tokens: tuple[int, ...] = ()
    block_size: int = 0
    lora_id: int | str | None = None
    lora_name: str | None = None
    medium: str | None = GPU
    extra_keys: tuple[BlockExtras | None, ...] | None = None
    group: int | None = None
    spec_kind: str | None = None
    window: int | None = None
    cache_salt: str | None = None
    session_id: str | None = None
    locality: str | None = None
    ownership: str | None = None
    lookahead: tuple[int, ...] | None = None
    pairs: bool = False
    unknown: Mapping[str, Any] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class Removed:
    """Hashes that lost a copy."""

    hashes: tuple[EngineHash, ...]
    medium: str | None = GPU
    group: int | None = None
    locality: str | None = None
    ownership: str | None = None
    unknown: Mapping[str, Any] = field(default_factory=lambda: NOTHING)


@dataclass(frozen=True, slots=True)
class Cleared:
    """The block pool was reset."""


@dataclass(frozen=True, slots=True)
class Verbatim:
    """An event that is any msgpack value at all: unknown tags, wrong types."""

    value: Any


Event: TypeAlias = Stored | Removed | Cleared | Verbatim

_FIRST = ("block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id")
_MEDIUM = (*_FIRST, "medium")
_NAME = (*_MEDIUM, "lora_name")
_EXTRA = (*_NAME, "extra_keys")
_GROUP = (*_EXTRA, "group_idx")
_SPEC = (*_GROUP, "kv_cache_spec_kind", "kv_cache_spec_sliding_window")
_LOCAL = (*_SPEC, "locality")
_OWNED = (*_LOCAL, "ownership")
_SESSION = (*_OWNED, "session_id")
_LOOKAHEAD = (*_SESSION, "lookahead_token_ids")
_ALWAYS = frozenset(_NAME)


@dataclass(frozen=True, slots=True)
class Form:
    """
    How one release writes: the fields after the tag in order, and as what.

    `bytes_hashes` and `groups` say what such an engine can express; a writer of histories asks them.
    """

    stored: tuple[str, ...]
    removed: tuple[str, ...]
    maps: bool = False
    map_batch: bool = False
    rank: bool = True
    signed: bool = False
    bytes_hashes: bool = True
    image_offsets: bool = True

    @property
    def groups(self) -> bool:
        return "group_idx" in self.stored

    @property
    def extras(self) -> bool:
        return "extra_keys" in self.stored

    @property
    def salts(self) -> bool:
        return "cache_salt" in self.stored


_LONGEST = frozenset({_SPEC, ("block_hashes", "medium", "group_idx")})
"""The arrays that have every field an array can have: what follows has no meaning yet."""

_OLD = ("block_hashes",)
_REMOVED = ("block_hashes", "medium")
_REMOVED_GROUP = ("block_hashes", "medium", "group_idx")
_REMOVED_LOCAL = (*_REMOVED_GROUP, "locality")
_REMOVED_OWNED = (*_REMOVED_LOCAL, "ownership")
_SGLANG_MAP = (*_MEDIUM, "cache_salt", "session_id")

FORMS: Mapping[str, Form] = MappingProxyType(
    {
        "vllm-0.9.0": Form(_FIRST, _OLD, rank=False, signed=True, bytes_hashes=False),
        "vllm-0.9.1": Form(_FIRST, _OLD, signed=True, bytes_hashes=False),
        "vllm-0.10.2": Form(_MEDIUM, _REMOVED),
        "vllm-0.14": Form(_NAME, _REMOVED),
        "vllm-0.17": Form(_EXTRA, _REMOVED, image_offsets=False),
        "vllm-0.20": Form(_GROUP, _REMOVED_GROUP),
        "vllm-0.22": Form(_SPEC, _REMOVED_GROUP),
        "vllm-0.24": Form(_SPEC, _REMOVED_GROUP, maps=True),
        "vllm-0.26": Form(_LOCAL, _REMOVED_LOCAL, maps=True),
        "vllm-0.29": Form(_OWNED, _REMOVED_OWNED, maps=True),
        "vllm-0.30": Form(_SESSION, _REMOVED_OWNED, maps=True),
        "vllm-0.33": Form(_LOOKAHEAD, _REMOVED_OWNED, maps=True),
        "vllm-map-batch": Form(_SPEC, _REMOVED_GROUP, maps=True, map_batch=True),
        "sglang-0.5.10": Form(_MEDIUM, _REMOVED, signed=True, bytes_hashes=False),
        "sglang-0.5.17": Form(_MEDIUM, _REMOVED, maps=True, signed=True, bytes_hashes=False),
        "sglang-0.5.20": Form(_SGLANG_MAP, _REMOVED, maps=True, signed=True, bytes_hashes=False),
        "sglang-0.5.22": Form((*_SGLANG_MAP, "lora_name"), _REMOVED, maps=True, signed=True, bytes_hashes=False),
    }
)
"""Every form known, by the first release that wrote it; `vllm-map-batch` is that of one development commit."""


def encode_batch(events: Iterable[Event], *, form: str = "vllm-0.33", ts: float = 1.7e9, rank: int | None = 0) -> bytes:
    """Write one batch as the engines of this form do. KeyError for a form that is not in FORMS."""
    how = FORMS[form]
    written = [_event(event, how) for event in events]
    batch: Any = [ts, written, rank] if how.rank else [ts, written]
    if how.map_batch:
        batch = {"ts": ts, "events": written, "data_parallel_rank": rank}
    payload = msgpack.packb(batch, use_bin_type=True)
    assert isinstance(payload, bytes)
    return payload


def _event(event: Event, form: Form) -> Any:
    match event:
        case Verbatim(value):
            return value
        case Stored():
            return _fields("BlockStored", _stored(event, form), form.stored, event.unknown, form)
        case Removed():
            return _fields("BlockRemoved", _removed(event, form), form.removed, event.unknown, form)
        case Cleared():
            return {"type": "AllBlocksCleared"} if form.maps else ["AllBlocksCleared"]


def _fields(tag: str, values: Mapping[str, Any], names: tuple[str, ...], unknown: Mapping[str, Any], form: Form) -> Any:
    if not form.maps:
        beyond = unknown.values() if names in _LONGEST else ()
        return [tag, *(values[name] for name in names), *beyond]
    kept = {name: values[name] for name in names if values[name] is not None or name in _ALWAYS}
    return {"type": tag, **kept, **unknown}


def _stored(event: Stored, form: Form) -> dict[str, Any]:
    tokens: list[Any] = list(event.tokens)
    if event.pairs:
        tokens = [[token, following] for token, following in zip(tokens, [*tokens[1:], 0], strict=True)]
    return {
        "block_hashes": [_hash(engine_hash, form) for engine_hash in event.hashes],
        "parent_block_hash": None if event.parent is None else _hash(event.parent, form),
        "token_ids": tokens,
        "block_size": event.block_size,
        "lora_id": event.lora_id,
        "medium": event.medium,
        "lora_name": event.lora_name,
        "extra_keys": None if event.extra_keys is None else [_extras(extras, form) for extras in event.extra_keys],
        "group_idx": event.group,
        "kv_cache_spec_kind": event.spec_kind,
        "kv_cache_spec_sliding_window": event.window,
        "cache_salt": event.cache_salt,
        "session_id": event.session_id,
        "locality": event.locality,
        "ownership": event.ownership,
        "lookahead_token_ids": event.lookahead,
    }


def _removed(event: Removed, form: Form) -> dict[str, Any]:
    return {
        "block_hashes": [_hash(engine_hash, form) for engine_hash in event.hashes],
        "medium": event.medium,
        "group_idx": event.group,
        "locality": event.locality,
        "ownership": event.ownership,
    }


def _hash(engine_hash: EngineHash, form: Form) -> EngineHash:
    if form.signed and isinstance(engine_hash, int) and engine_hash >= 1 << 63:
        return engine_hash - (1 << 64)
    return engine_hash


def _extras(extras: BlockExtras | None, form: Form) -> list[Any] | None:
    if extras is None:
        return None
    return [item[0] if isinstance(item, tuple) and not form.image_offsets else item for item in extras]
