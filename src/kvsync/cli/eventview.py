"""
Event batches for people to look at: decoded from bytes as far as they go, and never a reason to stop.

The index decodes in C and counts what it cannot use; this decoder shows it. It knows the field names of all releases
(by position in the array form, by key in the map form), keeps whatever it does not know, and says what it met where
something is not as it should be. `docs/design/index.md` says what the index makes of each.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import msgpack

STORED = "BlockStored"
REMOVED = "BlockRemoved"
CLEARED = "AllBlocksCleared"
UNREADABLE = "unreadable"

# The order of fields in the array form; releases appended, and never moved one.
POSITIONS: Mapping[str, tuple[str, ...]] = {
    STORED: (
        "type",
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
    ),
    REMOVED: ("type", "block_hashes", "medium", "group_idx"),
    CLEARED: ("type",),
}

_COUNTED = {"token_ids": "tokens_count", "lookahead_token_ids": "lookahead_tokens_count"}
_PRIVATE = frozenset({"extra_keys", "cache_salt", "session_id"})

_DEPTH_ERRORS = (RecursionError, msgpack.exceptions.StackError)


@dataclass(frozen=True, slots=True)
class EventView:
    """
    One event: its tag and its fields by name, those beyond the known ones under `+12`, `+13` and so on.

    Where the tag is `unreadable`, the field `problem` says why.
    """

    tag: str
    fields: Mapping[str, Any] = field(default_factory=dict)

    @property
    def hashes(self) -> list[str]:
        """The engine hashes as text: unsigned decimal, or hex for bytes."""
        found = self.fields.get("block_hashes")
        return [hash_text(value) for value in found] if isinstance(found, list) else []

    def to_json(self, *, tokens: bool = False) -> dict[str, Any]:
        """
        The event as a JSON object.

        Token ids, extra keys and salts only when asked for with `tokens`, since they are somebody's text and secrets;
        else there is `tokens_count`, and `has_extra_keys` and the like where there are some.
        """
        document: dict[str, Any] = {"type": self.tag}
        for name, value in self.fields.items():
            if name == "block_hashes" and isinstance(value, list):
                document[name] = self.hashes
            elif name == "parent_block_hash" and value is not None:
                document[name] = hash_text(value)
            elif name in _COUNTED and not tokens:
                document[_COUNTED[name]] = _count(value)
            elif name in _PRIVATE and not tokens:
                document[f"has_{name}"] = _has_any(value)
            elif name != "type":
                document[name] = plain(value)
        return document


@dataclass(frozen=True, slots=True)
class BatchView:
    """One payload: when the engine collected it (seconds since 1970, if it says), and its events."""

    ts: float | None
    events: tuple[EventView, ...]


def decode_batch(payload: bytes) -> BatchView:
    """Decode a payload as far as it goes; what cannot be read is one `unreadable` event."""
    try:
        batch = unpack(payload)
    except ValueError as error:
        return BatchView(None, (_unreadable(str(error)),))
    if isinstance(batch, dict):
        ts, events = batch.get("ts"), batch.get("events")
    elif isinstance(batch, list) and len(batch) >= 2:
        ts, events = batch[0], batch[1]
    else:
        return BatchView(
            None, (_unreadable(f"the batch is {_kind(batch)}, neither an array of two or more nor a map"),)
        )
    when = float(ts) if isinstance(ts, (int, float)) else None
    if not isinstance(events, list):
        return BatchView(when, (_unreadable(f"the events are {_kind(events)}, not an array"),))
    return BatchView(when, tuple(map(_event, events)))


def unpack(payload: bytes) -> Any:
    """Read one msgpack value; `ValueError` says where and why it cannot be read."""
    # Surrogate escapes keep text that is not UTF-8 what it was, through reading and writing.
    unpacker = msgpack.Unpacker(
        raw=False, strict_map_key=False, unicode_errors="surrogateescape", max_buffer_size=max(len(payload), 1)
    )
    unpacker.feed(payload)
    try:
        return unpacker.unpack()
    except msgpack.OutOfData:
        raise ValueError(f"the payload ends early, after {len(payload)} bytes") from None
    except _DEPTH_ERRORS:
        raise ValueError("the payload is nested too deeply") from None
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"not msgpack at byte {unpacker.tell()}: {error!r}") from None


def fields_of(event: Any) -> tuple[str, dict[str, Any]] | None:
    """The tag and the fields by name of an event in either form; None if it is neither."""
    if isinstance(event, dict):
        tag = event.get("type")
        return (tag, {_text(key): value for key, value in event.items()}) if isinstance(tag, str) else None
    if isinstance(event, list) and event and isinstance(event[0], str):
        known = POSITIONS.get(event[0], ("type",))
        return event[0], {known[n] if n < len(known) else f"+{n}": value for n, value in enumerate(event)}
    return None


def hash_text(value: Any) -> str:
    """An engine hash as dumps write it: unsigned decimal, or lower-case hex for bytes."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value % 2**64)
    return repr(value)


def plain(value: Any) -> Any:
    """The nearest value that JSON has: bytes as hex, text that is not UTF-8 with its bytes escaped."""
    match value:
        case bytes():
            return value.hex()
        case str():
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
        case list() | tuple():
            return [plain(item) for item in value]
        case dict():
            return {_text(plain(key)): plain(item) for key, item in value.items()}
        case float() if value != value or value in (float("inf"), float("-inf")):
            return str(value)
        case None | bool() | int() | float():
            return value
        case _:
            return str(value)


def describe(event: EventView) -> str:
    """What an event says, in a line: `stored GPU 8 blocks (128 tokens) after 1a2b…: 3c4d…`."""
    found = event.fields
    match event.tag:
        case "BlockStored":
            words = ["stored", _place(found), _blocks(event), f"({_count(found.get('token_ids'))} tokens)"]
            parent = found.get("parent_block_hash")
            words.append("from the start" if parent is None else f"after {short(hash_text(parent))}")
            if found.get("lora_name") is not None:
                words.append(f"lora {plain(found['lora_name'])}")
            if _has_any(found.get("extra_keys")):
                words.append("with extra keys")
        case "BlockRemoved":
            words = ["removed", _place(found), _blocks(event)]
        case "AllBlocksCleared":
            return "cleared"
        case "unreadable":
            return f"unreadable: {found.get('problem')}"
        case _:
            return f"{plain(event.tag)}: unknown to us"
    return " ".join(words) + _hash_list(event.hashes)


def short(text: str, length: int = 10) -> str:
    """The beginning of a hash, enough to tell it apart on a screen."""
    return text if len(text) <= length else text[: length - 1] + "…"


def _event(event: Any) -> EventView:
    found = fields_of(event)
    if found is None:
        return _unreadable(
            f"an event is {_kind(event)}, neither an array that begins with a text nor a map with a type"
        )
    return EventView(*found)


def _unreadable(problem: str) -> EventView:
    return EventView(UNREADABLE, {"problem": problem})


def _place(found: Mapping[str, Any]) -> str:
    medium = found.get("medium")
    place = str(plain(medium)).upper() if medium else "GPU"
    group = found.get("group_idx")
    return f"{place} group {plain(group)}" if group else place


def _blocks(event: EventView) -> str:
    count = len(event.hashes)
    return f"{count} block{'' if count == 1 else 's'}"


def _hash_list(hashes: list[str]) -> str:
    if not hashes:
        return ""
    shown = " ".join(short(text) for text in hashes[:3])
    return f": {shown}{f' … {short(hashes[-1])}' if len(hashes) > 3 else ''}"


def _has_any(value: Any) -> bool:
    # Engines send a nil for each block that has none.
    return any(one is not None for one in value) if isinstance(value, list) else bool(value)


def _count(value: Any) -> int:
    return len(value) if isinstance(value, list) else 0


def _text(key: Any) -> str:
    return key if isinstance(key, str) else str(key)


def _kind(value: Any) -> str:
    kinds = {list: "an array", dict: "a map", str: "text", bytes: "bytes", bool: "a boolean", int: "a number"}
    if isinstance(value, list):
        return f"an array of {len(value)}"
    return "nil" if value is None else kinds.get(type(value), type(value).__name__)
