"""
How a batch of cache events is written: vLLM's forms since 0.9.0 and SGLang's since 0.5.10.

A batch is a msgpack array `[time, events, rank]` in every release. Its events were arrays that grew at the
end, release by release, and became maps. Each release's form is a row of `_VLLM` or `_SGLANG`; a release
between two rows has the form of the earlier one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, TypeAlias

import msgpack

from kvsync.engine.events import BlockRemoved, BlockStored, CacheEvent
from kvsync.engine.hashing import BlockExtras, HashForm
from kvsync.errors import ConfigError

MEDIUM = "GPU"
_MAP_16 = b"\xde"
_packer = msgpack.Packer()
DEFAULT_WIRE = "vllm-0.33.0"

Version: TypeAlias = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class _Form:
    """
    What one release writes.

    `stored` and `removed` are the fields after the tag, in order. Of a map, those in `_OPTIONAL` are left
    out when they are None; an array has them all. `long_stored`: engines reserve a map's header for all
    fields it could have, and with 16 of them it is the long one, however few are there. `empty_first` is
    no matter of writing: whether that release gives blocks without content away before any other.
    """

    stored: tuple[str, ...]
    removed: tuple[str, ...]
    maps: bool = False
    rank: bool = True
    bytes_hashes: bool = True
    signed: bool = False
    media_offsets: bool = True
    replay_topic: bool = False
    coalesced_removals: bool = False
    long_stored: bool = False
    empty_first: bool = True


_OPTIONAL = frozenset(
    {"extra_keys", "group_idx", "kv_cache_spec_kind", "kv_cache_spec_sliding_window", "session_id", "cache_salt"}
)

_FIRST = ("block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id")
_MEDIUM = (*_FIRST, "medium")
_LORA = (*_MEDIUM, "lora_name")
_EXTRA = (*_LORA, "extra_keys")
_GROUP = (*_EXTRA, "group_idx")
_SPEC = (*_GROUP, "kv_cache_spec_kind", "kv_cache_spec_sliding_window")
_SESSION = (*_SPEC, "session_id")
_REMOVED = ("block_hashes",)
_REMOVED_MEDIUM = ("block_hashes", "medium")
_REMOVED_GROUP = ("block_hashes", "medium", "group_idx")

_VLLM: tuple[tuple[Version, _Form], ...] = (
    (
        (0, 9, 0),
        _Form(_FIRST, _REMOVED, rank=False, bytes_hashes=False, signed=True, media_offsets=False, empty_first=False),
    ),
    ((0, 9, 1), _Form(_FIRST, _REMOVED, bytes_hashes=False, signed=True, media_offsets=False, empty_first=False)),
    ((0, 10, 2), _Form(_MEDIUM, _REMOVED_MEDIUM, media_offsets=False, empty_first=False)),
    ((0, 14, 0), _Form(_LORA, _REMOVED_MEDIUM, media_offsets=False, empty_first=False)),
    ((0, 17, 0), _Form(_EXTRA, _REMOVED_MEDIUM, media_offsets=False, empty_first=False)),
    ((0, 20, 0), _Form(_GROUP, _REMOVED_GROUP, empty_first=False)),
    ((0, 22, 0), _Form(_SPEC, _REMOVED_GROUP, empty_first=False)),
    ((0, 24, 0), _Form(_SPEC, _REMOVED_GROUP, maps=True)),
    ((0, 26, 0), _Form(_SPEC, _REMOVED_GROUP, maps=True, replay_topic=True)),
    ((0, 30, 0), _Form(_SESSION, _REMOVED_GROUP, maps=True, replay_topic=True)),
    ((0, 33, 0), _Form(_SESSION, _REMOVED_GROUP, maps=True, replay_topic=True, long_stored=True)),
)

_SGLANG_MAP = (*_MEDIUM, "cache_salt", "session_id")

_SGLANG: tuple[tuple[Version, _Form], ...] = (
    ((0, 5, 10), _Form(_MEDIUM, _REMOVED_MEDIUM, bytes_hashes=False, signed=True, coalesced_removals=True)),
    (
        (0, 5, 20),
        _Form(_SGLANG_MAP, _REMOVED_MEDIUM, maps=True, bytes_hashes=False, signed=True, coalesced_removals=True),
    ),
    (
        (0, 5, 22),
        _Form(
            (*_SGLANG_MAP, "lora_name"),
            _REMOVED_MEDIUM,
            maps=True,
            bytes_hashes=False,
            signed=True,
            replay_topic=True,
            coalesced_removals=True,
        ),
    ),
)

_RELEASES = {"vllm": _VLLM, "sglang": _SGLANG}
_NAME = re.compile(r"(vllm|sglang)-(\d{1,4})\.(\d{1,4})\.(\d{1,4})")


@dataclass(frozen=True, slots=True)
class Wire:
    """One release's way of writing batches; `hash_form` is how it writes the names of blocks."""

    name: str
    form: _Form
    hash_form: HashForm

    @classmethod
    def named(cls, name: str, hash_form: HashForm | None = None) -> Wire:
        """
        Find the form of a release such as `vllm-0.33.0` or `sglang-0.5.22`.

        Hashes are as that release has them by default unless `hash_form` says otherwise. Raises
        `ConfigError` for a release without events, and for hashes that it could not write.
        """
        form = _form_of(name)
        chosen = hash_form or (HashForm.I64 if form.signed else HashForm.U64)
        if chosen.is_bytes and not form.bytes_hashes:
            raise ConfigError(f"{name} writes block hashes as integers only, not as {chosen}; use u64 or i64")
        return cls(name, form, chosen)

    @property
    def empty_first(self) -> bool:
        """Whether that release's pool gives blocks without content away first."""
        return self.form.empty_first

    @property
    def replay_topic(self) -> bool:
        """Whether replayed batches carry the topic as a frame of their own."""
        return self.form.replay_topic

    def encode(self, time_s: float, events: Iterable[CacheEvent], rank: int) -> bytes:
        """Write one batch."""
        written = [self._event(event) for event in self._gathered(events)]
        pack = _packer.pack
        parts = [
            _packer.pack_array_header(3 if self.form.rank else 2),
            pack(time_s),
            _packer.pack_array_header(len(written)),
            *(self._pack_event(event) for event in written),
        ]
        if self.form.rank:
            parts.append(pack(rank))
        return b"".join(parts)

    def _pack_event(self, event: list[Any] | dict[str, Any]) -> bytes:
        if isinstance(event, dict) and self.form.long_stored and event["type"] == "BlockStored":
            pairs = b"".join(_packer.pack(part) for pair in event.items() for part in pair)
            return _MAP_16 + len(event).to_bytes(2, "big") + pairs
        packed = _packer.pack(event)
        assert isinstance(packed, bytes)
        return packed

    def _gathered(self, events: Iterable[CacheEvent]) -> Iterable[CacheEvent]:
        if not self.form.coalesced_removals:
            yield from events
            return
        for group, run in groupby(events, key=lambda event: event.group if isinstance(event, BlockRemoved) else None):
            if group is None:
                yield from run
            else:
                removed = (event.hashes for event in run if isinstance(event, BlockRemoved))
                yield BlockRemoved(tuple(digest for hashes in removed for digest in hashes), group)

    def _event(self, event: CacheEvent) -> list[Any] | dict[str, Any]:
        if isinstance(event, BlockStored):
            return self._shaped("BlockStored", self.form.stored, self._stored(event))
        if isinstance(event, BlockRemoved):
            fields = {"block_hashes": self._hashes(event.hashes), "medium": MEDIUM, "group_idx": event.group}
            return self._shaped("BlockRemoved", self.form.removed, fields)
        return self._shaped("AllBlocksCleared", (), {})

    def _shaped(self, tag: str, names: Sequence[str], values: dict[str, Any]) -> list[Any] | dict[str, Any]:
        if not self.form.maps:
            return [tag, *(values[name] for name in names)]
        shaped: dict[str, Any] = {"type": tag}
        for name in names:
            if values[name] is not None or name not in _OPTIONAL:
                shaped[name] = values[name]
        return shaped

    def _stored(self, event: BlockStored) -> dict[str, Any]:
        return {
            "block_hashes": self._hashes(event.hashes),
            "parent_block_hash": None if event.parent is None else self.hash_form.write(event.parent),
            "token_ids": event.tokens.tolist(),
            "block_size": event.block_size,
            "lora_id": event.lora.number if event.lora else None,
            "medium": MEDIUM,
            "lora_name": event.lora.name if event.lora else None,
            "extra_keys": [self._extras(extras) for extras in event.extras],
            "group_idx": event.group,
            "kv_cache_spec_kind": event.spec.kind,
            "kv_cache_spec_sliding_window": event.spec.window,
            "session_id": event.session,
            "cache_salt": event.salt,
        }

    def _hashes(self, digests: Iterable[bytes]) -> list[int | bytes]:
        return [self.hash_form.write(digest) for digest in digests]

    def _extras(self, extras: BlockExtras | None) -> list[Any] | None:
        if extras is None:
            return None
        return [key if isinstance(key, str) else self._media_key(*key) for key in extras]

    def _media_key(self, identifier: str, offset: int) -> str | list[Any]:
        return [identifier, offset] if self.form.media_offsets else identifier


def _form_of(name: str) -> _Form:
    found = _NAME.fullmatch(name)
    if found is None:
        raise ConfigError(f"wire {name!r} is not a release; write vllm-X.Y.Z or sglang-X.Y.Z, such as {DEFAULT_WIRE}")
    rows = _RELEASES[found[1]]
    asked = (int(found[2]), int(found[3]), int(found[4]))
    forms = [form for version, form in rows if version <= asked]
    if not forms:
        first = ".".join(map(str, rows[0][0]))
        raise ConfigError(f"wire {name!r} is older than the first release known here; use {found[1]}-{first} or later")
    return forms[-1]
