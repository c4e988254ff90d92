"""What each byte form of an event means, one rule of the page at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgpack
import pytest

from kvsync.testing.decoder import (
    ClearedEvent,
    Decoded,
    Dialect,
    LoraId,
    Opaque,
    Reason,
    RemovedEvent,
    SkippedEvent,
    StoredEvent,
    decode_payload,
    medium_name,
)
from kvsync.testing.history import UNREADABLE, deep

PLAIN: Mapping[str, Any] = {"type": "BlockStored", "block_hashes": [1], "token_ids": [2], "block_size": 1}
ARRAY = ["BlockStored", [1], None, [2], 1]


def decode(*events: Any) -> Decoded:
    """Decode a batch of these events."""
    return decode_payload(msgpack.packb([1.0, list(events), 0]))


def stored(event: Any) -> StoredEvent:
    """Decode one event that is a stored one."""
    (decoded,) = decode(event).events
    assert isinstance(decoded, StoredEvent)
    return decoded


def reason(event: Any) -> Reason:
    """Decode one event that cannot be."""
    (decoded,) = decode(event).events
    assert isinstance(decoded, SkippedEvent)
    return decoded.reason


def test_arrays_and_maps_mean_the_same() -> None:
    """Every field has its place in an array and its name in a map."""
    values = [[1], 5, [2, 3], 2, None, "cpu", "sql", [["sql", ["cat", -1]]], 3, "sliding_window", 9]
    names = (
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
    expected = StoredEvent(
        (1,), 5, (2, 3), 2, "sql", "CPU", 3, "sliding_window", 9, ((("cat", -1),),), None, Dialect.TAGGED
    )
    assert stored(["BlockStored", *values]) == expected
    assert stored({"type": "BlockStored", **dict(zip(names, values, strict=True))}) == expected
    assert stored({**dict(zip(names, values, strict=True)), "type": "BlockStored"}) == expected


def test_a_batch_may_be_a_map_or_lack_its_rank() -> None:
    """The events of a batch are found in an array of two or more and under a map's key."""
    expected = (ClearedEvent(),)
    for batch in ([1.0, [["AllBlocksCleared"]]], [None, [["AllBlocksCleared"]], None, 4, 5]):
        assert decode_payload(msgpack.packb(batch)) == Decoded(expected)
    for keys in (("ts", "events", "rank"), ("events", "ts"), ("events",)):
        batch_map = {key: [["AllBlocksCleared"]] if key == "events" else [7] for key in keys}
        assert decode_payload(msgpack.packb(batch_map)) == Decoded(expected)


@pytest.mark.parametrize(
    "batch",
    [
        b"",
        b"\xc1",
        b"\xc0",
        b"\xa3abc",
        msgpack.packb([]),
        msgpack.packb([1.0]),
        msgpack.packb([1.0, None]),
        msgpack.packb([1.0, {}]),
        msgpack.packb({}),
        msgpack.packb({"event": []}),
        msgpack.packb({b"events": []}),
        b"\x81\x90\x90",
        msgpack.packb([1.0, []])[:-1],
        b"\x92\xc1\x90",
    ],
    ids=bytes.hex,
)
def test_an_unreadable_batch_is_one_skip(batch: bytes) -> None:
    """A payload in which no events can be found is skipped as a batch."""
    assert decode_payload(batch) == Decoded((SkippedEvent(Reason.BATCH),))


@pytest.mark.parametrize("event", UNREADABLE, ids=lambda event: repr(event)[:50])
def test_every_unreadable_event_is_skipped_alone(event: Any) -> None:
    """It is one skip, and its neighbours are read."""
    decoded = decode(["AllBlocksCleared"], event, ["BlockRemoved", [1]])
    assert [type(each) for each in decoded.events] == [ClearedEvent, SkippedEvent, RemovedEvent]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"block_hashes": 1}, Reason.TYPE),
        ({"block_hashes": None}, Reason.TYPE),
        ({"block_hashes": [True]}, Reason.HASH),
        ({"block_hashes": [b"h" * 65]}, Reason.HASH),
        ({"parent_block_hash": b""}, Reason.HASH),
        ({"token_ids": "text"}, Reason.TYPE),
        ({"token_ids": [1.0]}, Reason.TYPE),
        ({"token_ids": [1 << 32]}, Reason.RANGE),
        ({"token_ids": [[1]]}, Reason.TYPE),
        ({"token_ids": [[-1, 0]]}, Reason.RANGE),
        ({"block_size": (1 << 20) + 1}, Reason.RANGE),
        ({"block_size": True}, Reason.TYPE),
        ({"lora_id": 1.5}, Reason.TYPE),
        ({"medium": b"GPU"}, Reason.TYPE),
        ({"medium": "m" * 65}, Reason.LIMIT),
        ({"lora_name": 1}, Reason.TYPE),
        ({"lora_name": "l" * 4097}, Reason.LIMIT),
        ({"extra_keys": "text"}, Reason.TYPE),
        ({"extra_keys": [1]}, Reason.TYPE),
        ({"extra_keys": [[deep(60)]]}, Reason.DEPTH),
        ({"group_idx": -1}, Reason.RANGE),
        ({"group_idx": 65536}, Reason.RANGE),
        ({"kv_cache_spec_kind": 1}, Reason.TYPE),
        ({"kv_cache_spec_sliding_window": 1 << 31}, Reason.RANGE),
        ({"cache_salt": 1}, Reason.TYPE),
        ({"locality": deep(60)}, Reason.DEPTH),
        ({"news": deep(60)}, Reason.DEPTH),
        ({"type": None}, Reason.TYPE),
    ],
    ids=repr,
)
def test_reasons(fields: dict[str, Any], expected: Reason) -> None:
    """Each fault has its reason."""
    assert reason({**PLAIN, **fields}) is expected


@pytest.mark.parametrize(
    "fields",
    [
        {"block_hashes": [b"h" * 64, b"h", -1, (1 << 64) - 1]},
        {"token_ids": None},
        {"token_ids": [0, (1 << 32) - 1]},
        {"block_size": None},
        {"block_size": 1 << 20},
        {"group_idx": 65535},
        {"kv_cache_spec_sliding_window": (1 << 31) - 1},
        {"lora_name": "l" * 4096},
        {"medium": "m" * 64},
        {"extra_keys": [None, [], [None, 1, {"a": [b""]}]]},
        {"session_id": 5, "locality": [1], "ownership": {}, "lookahead_token_ids": "any"},
    ],
    ids=lambda fields: repr(fields)[:60],
)
def test_limits_are_inclusive_and_nil_is_none(fields: dict[str, Any]) -> None:
    """The largest allowed values are allowed, nil stands for absence, unused fields may be anything."""
    assert isinstance(decode({**PLAIN, **fields}).events[0], StoredEvent)


def test_the_first_fault_in_the_order_of_the_bytes_is_the_reason() -> None:
    """Of two faults the one sent first counts, a missing key last."""
    assert reason({"type": "BlockStored", "token_ids": [-1], "block_hashes": [""]}) is Reason.RANGE
    assert reason({"type": "BlockStored", "block_hashes": [""], "token_ids": [-1]}) is Reason.HASH
    assert reason({"type": "BlockStored", "group_idx": -1}) is Reason.RANGE


def test_hashes_keep_all_their_bits() -> None:
    """A signed integer is the unsigned one of the same bits; bytes stay bytes."""
    assert stored({**PLAIN, "block_hashes": [-1, 1, b"\x01"]}).hashes == ((1 << 64) - 1, 1, b"\x01")


def test_pairs_count_by_their_first() -> None:
    """Of an EAGLE pair the first token is the block's."""
    assert stored({**PLAIN, "token_ids": [[1, 2], [2, 3], 4]}).tokens == (1, 2, 4)


@pytest.mark.parametrize(
    ("length", "dialect"),
    [(5, "absent"), (8, "absent"), (9, "untagged"), (10, "tagged"), (12, "tagged"), (13, "tagged")],
)
def test_the_length_of_an_array_tells_the_dialect(length: int, dialect: str) -> None:
    """Up to 8 elements have no extra keys, 9 have them untagged, more have them tagged."""
    event = [*ARRAY, None, None, None, None, None, None, None, None][:length]
    assert stored(event).dialect is Dialect(dialect)


def test_a_map_is_tagged() -> None:
    """Maps came after tags."""
    assert stored(PLAIN).dialect is Dialect.TAGGED


def test_the_adapter_is_its_name_or_privately_its_number() -> None:
    """The name is the identity; a number alone is one that no name equals."""
    assert stored({**PLAIN, "lora_id": 3, "lora_name": "sql"}).lora == "sql"
    assert stored({**PLAIN, "lora_id": 3}).lora == LoraId("3")
    assert stored({**PLAIN, "lora_id": "x"}).lora == LoraId("x")
    assert stored({**PLAIN, "lora_id": 0}).lora == LoraId("0")
    assert stored(PLAIN).lora is None


def test_only_a_first_text_that_is_the_adapter_is_left_out() -> None:
    """The adapter's name leads the extra keys and is no extra; the same text elsewhere is one."""
    event = {**PLAIN, "lora_name": "a", "extra_keys": [["a", "a"], ["b", "a"], [b"a"], [["a", 1]], ["a"]]}
    assert stored(event).extras == (("a",), ("b", "a"), (b"a",), (("a", 1),), ())


def test_unheard_of_extras_are_their_bytes() -> None:
    """An extra that is no text, bytes or pair with an offset is what was sent, and equal only to itself."""
    event = {**PLAIN, "extra_keys": [[1, None, ["a", "b"], ["a", 1, 2], [1, 2]]]}
    assert stored(event).extras == (
        (
            Opaque(b"\x01"),
            Opaque(b"\xc0"),
            Opaque(b"\x92\xa1a\xa1b"),
            Opaque(b"\x93\xa1a\x01\x02"),
            Opaque(b"\x92\x01\x02"),
        ),
    )


def test_media_compare_case_blind_and_default_to_gpu() -> None:
    """ASCII letters lose their case, nothing else does; absent, nil and empty are the GPU."""
    assert [medium_name(text) for text in (None, "", "gpu", "Cpu_Pinned", "straße")] == [
        "GPU",
        "GPU",
        "GPU",
        "CPU_PINNED",
        "STRAßE",
    ]
    assert (
        decode(["BlockRemoved", [1]], ["BlockRemoved", [1], None], ["BlockRemoved", [1], ""]).events
        == (RemovedEvent((1,), "GPU", 0),) * 3
    )


def test_unknown_things_are_counted() -> None:
    """Unknown tags, keys, elements and trailing bytes are counted and otherwise passed over."""
    decoded = decode(
        ["Moved", 1],
        {"type": "Moved", "news": 1},
        {**PLAIN, "news": 1, 5: 6, b"block_size": 7},
        [*ARRAY, None, None, None, None, None, None, None, "more", "more"],
        ["BlockRemoved", [1], None, 0, "more"],
        {"type": "BlockRemoved", "block_hashes": [], "token_ids": [], "locality": "LOCAL"},
        ["AllBlocksCleared", 1],
    )
    assert (len(decoded.events), decoded.unknown_tag, decoded.unknown_field) == (5, 2, 3 + 2 + 1 + 1 + 1)
    assert decode_payload(msgpack.packb([1, [], 0]) + b"\xc1").trailing == 1


def test_a_key_sent_twice_counts_by_its_last() -> None:
    """Of a key that comes twice the later value is meant."""
    raw = msgpack.packb({**PLAIN, "block_sizf": 4}).replace(b"block_sizf", b"block_size")
    (event,) = decode_payload(b"\x92\xc0\x91" + raw).events
    assert isinstance(event, StoredEvent)
    assert event.block_size == 4


def test_the_reserved_byte_ends_a_payload() -> None:
    """Behind a byte that begins no value nothing can be found: one skip, and what came before applies."""
    payload = b"\x93\x01\x93\x91\xb0AllBlocksCleared\x92\xacBlockRemoved\xc1\x91\xb0AllBlocksCleared\x00"
    assert decode_payload(payload).events == (ClearedEvent(), SkippedEvent(Reason.TYPE))
