"""
A second, plain decoder of event payloads: what the C decoder is held against.

It follows docs/design/index.md, "Decoding an event", in the order of that page, and wherever it can be slow
and obvious it is. Where the page leaves a choice, these are taken:

- first the end of the event is looked for. Is it missing, the event is `truncated`; is there a byte that
  begins no msgpack value, it is `type`; either way nothing behind it can be read, and it counts as one skip;
- then the first fault in the order of the bytes gives the reason, a missing key coming last. The tag of a map
  is its first `type` key and is looked for before the rest is read;
- nesting is counted from the event itself, which is level one, and matters where anything may stand: unknown
  and unused fields, and items of extra keys. Elsewhere a container is a wrong type already;
- of a map key sent twice the last counts; a key that is no text is unknown, one that is a container is `type`;
- unknown fields are those of events; a batch may carry what it likes, before and behind its events. One that is
  cut short behind them is `truncated` too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from kvsync.testing.plain_msgpack import Head, Kind, NotAValue, TruncatedValue, Value, find_end, read_head, read_value
from kvsync.types import GPU, EngineHash

TOKEN_MAX = (1 << 32) - 1
BLOCK_SIZE_MAX = 1 << 20
GROUP_MAX = 65535
WINDOW_MAX = (1 << 31) - 1
HASH_BYTES_MAX = 64
TEXT_BYTES_MAX = 4096
MEDIUM_BYTES_MAX = 64
DEPTH_MAX = 32

STORED_KEYS = (
    "block_hashes",
    "parent_block_hash",
    "token_ids",
    "block_size",
    "lora_id",
    "medium",
    "lora_name",
    "extra_keys",
    "group_idx",
    "kv_cache_spec_kind",
    "kv_cache_spec_sliding_window",
)
"""The fields of a stored array after its tag, in order; a map has them under these names."""

REMOVED_KEYS = ("block_hashes", "medium", "group_idx")
NO_KEY = ""


class Reason(StrEnum):
    """Why an event could not be applied."""

    TYPE = "type"
    RANGE = "range"
    HASH = "hash"
    DEPTH = "depth"
    TRUNCATED = "truncated"
    LIMIT = "limit"
    BATCH = "batch"


class Dialect(StrEnum):
    """What the wire form of a stored event can show of extra keys."""

    ABSENT = "absent"
    UNTAGGED = "untagged"
    TAGGED = "tagged"


@dataclass(frozen=True, slots=True)
class Opaque:
    """An extra that no query can ask for: its bytes as sent."""

    raw: bytes


Extra: TypeAlias = str | bytes | tuple[str | bytes, int] | Opaque
Extras: TypeAlias = tuple[Extra, ...]
"""What a block depends on beside its tokens, in order; empty = nothing."""


@dataclass(frozen=True, slots=True)
class LoraId:
    """An adapter known only by its number (or text) in the engine's process; no query can ask for it."""

    text: str


Lora: TypeAlias = str | LoraId | None


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """
    A decoded stored event, field by field; `extras` has an entry per hash, or whatever the engine sent.
    """

    hashes: tuple[EngineHash, ...]
    parent: EngineHash | None
    tokens: tuple[int, ...]
    block_size: int
    lora: Lora
    medium: str
    group: int
    spec_kind: str | None
    window: int | None
    extras: tuple[Extras, ...] | None
    cache_salt: str | None
    dialect: Dialect


@dataclass(frozen=True, slots=True)
class RemovedEvent:
    """A decoded removed event."""

    hashes: tuple[EngineHash, ...]
    medium: str
    group: int


@dataclass(frozen=True, slots=True)
class ClearedEvent:
    """A decoded cleared event; it has no fields."""


@dataclass(frozen=True, slots=True)
class SkippedEvent:
    """An event, or a whole batch, that cannot be read."""

    reason: Reason


Event: TypeAlias = StoredEvent | RemovedEvent | ClearedEvent | SkippedEvent


@dataclass(frozen=True, slots=True)
class Decoded:
    """The events of one payload in order, and what was met that is counted without harm."""

    events: tuple[Event, ...]
    unknown_tag: int = 0
    unknown_field: int = 0
    trailing: int = 0


class _Undecodable(Exception):
    def __init__(self, reason: Reason) -> None:
        super().__init__(reason)
        self.reason = reason


class _WrongType(_Undecodable):
    def __init__(self) -> None:
        super().__init__(Reason.TYPE)


def decode_payload(payload: bytes) -> Decoded:
    """
    Read one event batch, whatever the bytes are.

    Never raises: what cannot be read is a SkippedEvent in its place.
    """
    return _Batch(payload).decode()


def medium_name(text: str | None) -> str:
    """The one name of a medium, however it is written: ASCII upper case, `GPU` when there is none."""
    if not text:
        return GPU
    return "".join(char.upper() if char.isascii() else char for char in text)


class _Batch:
    """One payload being read; `at` is the next byte."""

    def __init__(self, payload: bytes) -> None:
        self.payload = payload
        self.at = 0
        self.events: list[Event] = []
        self.unknown_tag = 0
        self.unknown_field = 0
        self.trailing = 0

    def decode(self) -> Decoded:
        try:
            count, values_behind = self._find_events()
        except (TruncatedValue, NotAValue, _Undecodable):
            self._skip(Reason.BATCH)
        else:
            if self._read_events(count):
                self._read_rest(values_behind)
        return Decoded(tuple(self.events), self.unknown_tag, self.unknown_field, self.trailing)

    def _find_events(self) -> tuple[int, int]:
        """Go to the first event; how many there are said to be, and how many values follow them."""
        outer = self._head()
        if outer.kind is Kind.ARRAY and 2 <= outer.number <= self._bytes_left():
            self._pass_value()
            behind = outer.number - 2
        elif outer.kind is Kind.MAP and 2 * outer.number <= self._bytes_left():
            behind = self._find_events_key(outer.number)
        else:
            raise _Undecodable(Reason.BATCH)
        array = self._head()
        if array.kind is not Kind.ARRAY:
            raise _Undecodable(Reason.BATCH)
        return array.number, behind

    def _find_events_key(self, pairs: int) -> int:
        for left in range(pairs - 1, -1, -1):
            if read_head(self.payload, self.at).kind in (Kind.ARRAY, Kind.MAP):
                break
            key, _ = read_value(self.payload, self.at, 0)
            self._pass_value()
            if key.content == "events":
                return 2 * left
            self._pass_value()
        raise _Undecodable(Reason.BATCH)

    def _read_events(self, count: int) -> bool:
        """Read one event after the other; False when what follows them cannot be found."""
        for _ in range(count):
            try:
                end = find_end(self.payload, self.at)
            except TruncatedValue:
                self._skip(Reason.TRUNCATED)
                return False
            except NotAValue:
                self._skip(Reason.TYPE)
                return False
            self._read_event(self.payload[self.at : end])
            self.at = end
        return True

    def _read_event(self, raw: bytes) -> None:
        try:
            event, unknown_fields = decode_event(raw)
        except _Undecodable as error:
            self._skip(error.reason)
            return
        if event is None:
            self.unknown_tag += 1
        else:
            self.events.append(event)
            self.unknown_field += unknown_fields

    def _read_rest(self, values: int) -> None:
        try:
            for _ in range(values):
                self._pass_value()
        except (TruncatedValue, NotAValue):
            self._skip(Reason.TRUNCATED)
            return
        self.trailing += int(self._bytes_left() > 0)

    def _head(self) -> Head:
        head = read_head(self.payload, self.at)
        self.at = head.body
        return head

    def _bytes_left(self) -> int:
        return len(self.payload) - self.at

    def _pass_value(self) -> None:
        self.at = find_end(self.payload, self.at)

    def _skip(self, reason: Reason) -> None:
        self.events.append(SkippedEvent(reason))


def decode_event(raw: bytes) -> tuple[Event | None, int]:
    """
    Decode the bytes of one whole event; also says how many unknown fields it had.

    None for a tag that is not known.
    """
    value, _ = read_value(raw, 0, DEPTH_MAX)
    if value.kind is Kind.ARRAY:
        return _decode_array(_items(value))
    if value.kind is Kind.MAP:
        return _decode_map(_pairs(value))
    raise _WrongType


def _decode_array(items: tuple[Value, ...]) -> tuple[Event | None, int]:
    tag = _tag(items[0] if items else None)
    keys, shortest = {"BlockStored": (STORED_KEYS, 5), "BlockRemoved": (REMOVED_KEYS, 2)}.get(tag, ((), 1))
    if len(items) < shortest:
        raise _WrongType
    padded = [*keys, *[NO_KEY] * len(items)]
    fields = list(zip(padded, items[1:], strict=False))
    if len(items) <= 8:
        dialect = Dialect.ABSENT
    else:
        dialect = Dialect.UNTAGGED if len(items) == 9 else Dialect.TAGGED
    return _decode_fields(tag, fields, dialect)


def _decode_map(pairs: tuple[tuple[Value, Value], ...]) -> tuple[Event | None, int]:
    for key, item in pairs:
        _refuse_container(key)
        if key.content == "type":
            tag = _tag(item)
            break
        _refuse_deep(item)
    else:
        raise _WrongType
    return _decode_fields(tag, [(_map_key(key), item) for key, item in pairs], Dialect.TAGGED)


def _map_key(key: Value) -> str | Value:
    """A key by its text; a container as itself, to be refused in its turn; else no known key."""
    if isinstance(key.content, str):
        return key.content
    return key if key.kind in (Kind.ARRAY, Kind.MAP) else NO_KEY


def _tag(value: Value | None) -> str:
    if value is None or not isinstance(value.content, str):
        raise _WrongType
    return value.content


def _decode_fields(tag: str, fields: Sequence[tuple[str | Value, Value]], dialect: Dialect) -> tuple[Event | None, int]:
    """Read the fields of an event in the order sent."""
    readers, unused = _FIELDS.get(tag, ({}, frozenset()))
    read: dict[str, Any] = {}
    unknown = 0
    for key, item in fields:
        if isinstance(key, Value):
            raise _WrongType
        if key in readers:
            read[key] = readers[key](item)
            continue
        unknown += key not in unused
        _refuse_deep(item)
    match tag:
        case "BlockStored":
            return _stored(read, dialect), unknown
        case "BlockRemoved":
            return _removed(read), unknown
        case "AllBlocksCleared":
            return ClearedEvent(), unknown
        case _:
            return None, unknown


def _stored(read: Mapping[str, Any], dialect: Dialect) -> StoredEvent:
    if "block_hashes" not in read or "token_ids" not in read:
        raise _WrongType
    lora_name: str | None = read.get("lora_name")
    extra_keys: tuple[Extras, ...] | None = read.get("extra_keys")
    return StoredEvent(
        hashes=read["block_hashes"],
        parent=read.get("parent_block_hash"),
        tokens=read["token_ids"],
        block_size=read.get("block_size") or 0,
        lora=read.get("lora_id") if lora_name is None else lora_name,
        medium=medium_name(read.get("medium")),
        group=read.get("group_idx") or 0,
        spec_kind=read.get("kv_cache_spec_kind"),
        window=read.get("kv_cache_spec_sliding_window"),
        extras=None if extra_keys is None else tuple(_less_lora(extras, lora_name) for extras in extra_keys),
        cache_salt=read.get("cache_salt"),
        dialect=dialect,
    )


def _removed(read: Mapping[str, Any]) -> RemovedEvent:
    if "block_hashes" not in read:
        raise _WrongType
    return RemovedEvent(read["block_hashes"], medium_name(read.get("medium")), read.get("group_idx") or 0)


def _less_lora(extras: Extras, lora_name: str | None) -> Extras:
    return extras[1:] if lora_name is not None and extras[:1] == (lora_name,) else extras


# ---------------------------------------------------------------------------- values


def _hashes(value: Value) -> tuple[EngineHash, ...]:
    return tuple(_hash(item) for item in _items(value))


def _hash(value: Value) -> EngineHash:
    if isinstance(value.content, int):
        return value.content % (1 << 64)
    if isinstance(value.content, bytes) and 1 <= len(value.content) <= HASH_BYTES_MAX:
        return value.content
    raise _Undecodable(Reason.HASH)


def _parent(value: Value) -> EngineHash | None:
    return None if value.kind is Kind.NIL else _hash(value)


def _tokens(value: Value) -> tuple[int, ...]:
    return () if value.kind is Kind.NIL else tuple(_token(item) for item in _items(value))


def _token(value: Value) -> int:
    if value.kind is not Kind.ARRAY:
        return _integer(value, TOKEN_MAX)
    pair = _items(value)
    if len(pair) != 2:
        raise _WrongType
    first = _integer(pair[0], TOKEN_MAX)
    if pair[1].kind is not Kind.INT:
        raise _WrongType
    return first


def _integer(value: Value, largest: int) -> int:
    if not isinstance(value.content, int):
        raise _WrongType
    if not 0 <= value.content <= largest:
        raise _Undecodable(Reason.RANGE)
    return value.content


def _integer_or_nil(largest: int) -> Callable[[Value], int | None]:
    return lambda value: None if value.kind is Kind.NIL else _integer(value, largest)


def _text(value: Value, longest: int) -> str:
    if not isinstance(value.content, str):
        raise _WrongType
    if len(value.content.encode("utf-8", "surrogateescape")) > longest:
        raise _Undecodable(Reason.LIMIT)
    return value.content


def _text_or_nil(longest: int) -> Callable[[Value], str | None]:
    return lambda value: None if value.kind is Kind.NIL else _text(value, longest)


def _lora_id(value: Value) -> LoraId | None:
    if value.kind is Kind.NIL:
        return None
    if isinstance(value.content, int):
        return LoraId(str(value.content))
    return LoraId(_text(value, TEXT_BYTES_MAX))


def _extra_keys(value: Value) -> tuple[Extras, ...] | None:
    return None if value.kind is Kind.NIL else tuple(_block_extras(entry) for entry in _items(value))


def _block_extras(entry: Value) -> Extras:
    return () if entry.kind is Kind.NIL else tuple(_extra(item) for item in _items(entry))


def _extra(item: Value) -> Extra:
    _refuse_deep(item)
    if isinstance(item.content, str | bytes):
        return item.content
    if item.kind is Kind.ARRAY:
        pair = _items(item)
        if len(pair) == 2 and isinstance(pair[0].content, str | bytes) and isinstance(pair[1].content, int):
            return pair[0].content, pair[1].content
    return Opaque(item.raw)


def _items(value: Value) -> tuple[Value, ...]:
    if value.kind is not Kind.ARRAY:
        raise _WrongType
    return value.content  # type: ignore[return-value]


def _pairs(value: Value) -> tuple[tuple[Value, Value], ...]:
    assert value.kind is Kind.MAP
    return value.content  # type: ignore[return-value]


def _refuse_container(key: Value) -> None:
    if key.kind in (Kind.ARRAY, Kind.MAP):
        raise _WrongType


def _refuse_deep(item: Value) -> None:
    if item.deep:
        raise _Undecodable(Reason.DEPTH)


_Readers: TypeAlias = Mapping[str, Callable[[Value], Any]]

_STORED: _Readers = {
    "block_hashes": _hashes,
    "parent_block_hash": _parent,
    "token_ids": _tokens,
    "block_size": _integer_or_nil(BLOCK_SIZE_MAX),
    "lora_id": _lora_id,
    "medium": _text_or_nil(MEDIUM_BYTES_MAX),
    "lora_name": _text_or_nil(TEXT_BYTES_MAX),
    "extra_keys": _extra_keys,
    "group_idx": _integer_or_nil(GROUP_MAX),
    "kv_cache_spec_kind": _text_or_nil(TEXT_BYTES_MAX),
    "kv_cache_spec_sliding_window": _integer_or_nil(WINDOW_MAX),
    "cache_salt": _text_or_nil(TEXT_BYTES_MAX),
}
_REMOVED: _Readers = {key: _STORED[key] for key in REMOVED_KEYS}

# tag -> how to read its fields, and the keys that are known and of no meaning here
_FIELDS: Mapping[str, tuple[_Readers, frozenset[str]]] = {
    "BlockStored": (
        _STORED,
        frozenset({"type", "locality", "ownership", "session_id", "lookahead_token_ids"}),
    ),
    "BlockRemoved": (_REMOVED, frozenset({"type", "locality", "ownership"})),
    "AllBlocksCleared": ({}, frozenset({"type"})),
}
