"""The wire forms: byte for byte what real engines wrote, and what each release has and has not."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import msgpack
import pytest

from kvsync.engine.events import AllBlocksCleared, BlockRemoved, BlockStored, CacheEvent, GroupSpec, Lora
from kvsync.engine.hashing import HashForm
from kvsync.engine.wire import Wire
from kvsync.errors import ConfigError

CAPTURES = Path(__file__).parents[2] / "data" / "captures"
HIGH = b"\x00" * 24 + b"\xf0" + b"\x00" * 6 + b"\x01"
LOW = b"\x00" * 31 + b"\x02"

STORED = BlockStored(
    hashes=(HIGH, LOW),
    parent=None,
    tokens=array("I", [1, 2, 3, 70_000]),
    block_size=2,
    lora=Lora("adapter", 3),
    extras=(("adapter", ("cat", -1), "tenant"), ("adapter",)),
    group=0,
    spec=GroupSpec(),
    session="talk",
    salt="tenant",
)
PLAIN = BlockStored((LOW,), HIGH, array("I", [5, 6]), 2, None, (None,), 1, GroupSpec(window=9))


def written(name: str, *events: CacheEvent, form: HashForm | None = None) -> list[Any]:
    """Write a batch and read it back without interpretation."""
    batch = msgpack.unpackb(Wire.named(name, form).encode(1.5, events, 4))
    assert isinstance(batch, list)
    return batch


def test_vllm_0_9_0_has_two_fields_in_a_batch_and_signed_hashes() -> None:
    """The first release: no rank, five fields, Python's own signed hashes."""
    assert written("vllm-0.9.0", STORED, BlockRemoved((HIGH,), 0), AllBlocksCleared()) == [
        1.5,
        [
            ["BlockStored", [-(2**60) + 1, 2], None, [1, 2, 3, 70_000], 2, 3],
            ["BlockRemoved", [-(2**60) + 1]],
            ["AllBlocksCleared"],
        ],
    ]


@pytest.mark.parametrize(
    ("name", "stored_length", "removed_length"),
    [
        ("vllm-0.9.1", 6, 2),
        ("vllm-0.10.1", 6, 2),
        ("vllm-0.10.2", 7, 3),
        ("vllm-0.12.0", 7, 3),
        ("vllm-0.14.0", 8, 3),
        ("vllm-0.17.1", 9, 3),
        ("vllm-0.20.0", 10, 4),
        ("vllm-0.22.0", 12, 4),
        ("vllm-0.23.0", 12, 4),
        ("sglang-0.5.10", 7, 3),
        ("sglang-0.5.16", 7, 3),
    ],
)
def test_arrays_grew_at_the_end(name: str, stored_length: int, removed_length: int) -> None:
    """Each release has every field of its own, None at the end included, and the rank after the events."""
    time_s, (stored, removed), rank = written(name, PLAIN, BlockRemoved((LOW,), 1))
    assert (time_s, rank, len(stored), len(removed)) == (1.5, 4, stored_length, removed_length)


def test_images_are_bare_names_before_0_20_and_carry_their_offset_since() -> None:
    """The older form cannot tell an image from an adapter or a salt; the newer one can."""
    assert written("vllm-0.19.0", STORED)[1][0][8] == [["adapter", "cat", "tenant"], ["adapter"]]
    assert written("vllm-0.20.0", STORED)[1][0][8] == [["adapter", ["cat", -1], "tenant"], ["adapter"]]


def test_maps_leave_out_what_is_none_and_optional() -> None:
    """Since 0.24 an event is a map: the old fields always, the newer ones if they say something."""
    stored, plain, removed, cleared = written(
        "vllm-0.33.0", STORED, PLAIN, BlockRemoved((LOW,), 1), AllBlocksCleared()
    )[1]
    assert stored == {
        "type": "BlockStored",
        "block_hashes": [0xF000000000000001, 2],
        "parent_block_hash": None,
        "token_ids": [1, 2, 3, 70_000],
        "block_size": 2,
        "lora_id": 3,
        "medium": "GPU",
        "lora_name": "adapter",
        "extra_keys": [["adapter", ["cat", -1], "tenant"], ["adapter"]],
        "group_idx": 0,
        "kv_cache_spec_kind": "full_attention",
        "session_id": "talk",
    }
    assert (plain["kv_cache_spec_kind"], plain["kv_cache_spec_sliding_window"]) == ("sliding_window", 9)
    assert "session_id" not in plain
    assert removed == {"type": "BlockRemoved", "block_hashes": [2], "medium": "GPU", "group_idx": 1}
    assert cleared == {"type": "AllBlocksCleared"}


def test_sessions_are_told_since_0_30() -> None:
    """An older map has no session."""
    assert "session_id" not in written("vllm-0.29.0", STORED)[1][0]


def test_sglang_writes_salt_and_gathers_removals() -> None:
    """No groups and no extra keys; removals that follow each other are one event."""
    removals = [BlockRemoved((HIGH,), 0), BlockRemoved((LOW,), 0)]
    first, stored, last = written("sglang-0.5.22", *removals, STORED, removals[0])[1]
    assert first == {"type": "BlockRemoved", "block_hashes": [-(2**60) + 1, 2], "medium": "GPU"}
    assert (stored["cache_salt"], stored["session_id"], stored["lora_name"]) == ("tenant", "talk", "adapter")
    assert not {"extra_keys", "group_idx"} & set(stored)
    assert last["block_hashes"] == [-(2**60) + 1]


@pytest.mark.parametrize(("form", "size"), [(HashForm.BYTES32, 32), (HashForm.BYTES16, 16)])
def test_hashes_may_be_bytes(form: HashForm, size: int) -> None:
    """Parent and hashes come as bytes of one length."""
    event = written("vllm-0.33.0", PLAIN, form=form)[1][0]
    assert (event["block_hashes"], event["parent_block_hash"]) == ([LOW[-size:]], HIGH[-size:])


@pytest.mark.parametrize(
    ("name", "topic"),
    [("vllm-0.25.1", False), ("vllm-0.26.0", True), ("sglang-0.5.20", False), ("sglang-0.5.22", True)],
)
def test_replay_carries_the_topic_since_a_release(name: str, topic: bool) -> None:
    """The wire form decides the frames of replay as well."""
    assert Wire.named(name).replay_topic is topic


@pytest.mark.parametrize("name", ["vllm", "vllm-0.33", "llama-1.2.3", "vllm-0.8.5", "sglang-0.5.9", "vllm-0.33.0 "])
def test_a_release_without_a_known_form_is_refused(name: str) -> None:
    """The message names what was given and what would do."""
    with pytest.raises(ConfigError, match=r"(vllm|sglang)-"):
        Wire.named(name)


@pytest.mark.parametrize("name", ["vllm-0.9.2", "sglang-0.5.22"])
def test_bytes_where_a_release_had_integers_are_refused(name: str) -> None:
    """A form that no real engine writes is not offered."""
    with pytest.raises(ConfigError, match="integers only"):
        Wire.named(name, HashForm.BYTES32)


@pytest.mark.parametrize(
    ("capture", "name"),
    [
        ("s1_single_int", "vllm-0.33.0"),
        ("s1_single_int_v0.23.0", "vllm-0.23.0"),
        ("s1_single_int_v0.12.0", "vllm-0.12.0"),
        ("s2_lora_dp_bytes", "vllm-0.33.0"),
        ("s3_hybrid_swa", "vllm-0.33.0"),
    ],
)
def test_what_real_engines_published_is_written_again_byte_for_byte(capture: str, name: str) -> None:
    """Every recorded batch, read into events and written in the form of its release, gives the recorded bytes."""
    with (CAPTURES / f"{capture}.msgpack").open("rb") as file:
        records = list(msgpack.Unpacker(file, strict_map_key=False))[1:]
    wires = {form: Wire.named(name, form) for form in (HashForm.U64, HashForm.BYTES32)}
    payloads = [frames[2] for _, channel, frames in records if channel == "pub"]
    assert payloads
    for payload in payloads:
        time_s, events, rank = msgpack.unpackb(payload)
        form = HashForm.BYTES32 if has_bytes(events) else HashForm.U64
        assert wires[form].encode(time_s, [as_event(event) for event in events], rank) == payload


FIELDS = ("type", "block_hashes", "parent", "token_ids", "block_size", "lora_id", "medium", "lora_name", "extra_keys")
MORE_FIELDS = ("group_idx", "kv_cache_spec_kind", "kv_cache_spec_sliding_window")


def has_bytes(events: list[Any]) -> bool:
    """Tell whether a recorded batch names its blocks by bytes."""
    fields = [as_fields(event) for event in events]
    return any(isinstance(one, bytes) for event in fields for one in event.get("block_hashes", ()))


def as_fields(event: Any) -> dict[str, Any]:
    """Name the fields of a recorded event, whichever form it has."""
    if isinstance(event, dict):
        return event | {"parent": event.get("parent_block_hash")}
    if event[0] == "BlockRemoved":
        return dict(zip(("type", "block_hashes", "medium", "group_idx"), event, strict=False))
    return dict(zip(FIELDS + MORE_FIELDS, event, strict=False))


def as_digest(value: int | bytes) -> bytes:
    """Give a digest that is written as the recorded value."""
    return value if isinstance(value, bytes) else value.to_bytes(32, "big")


def as_event(event: Any) -> CacheEvent:
    """Read a recorded event."""
    fields = as_fields(event)
    if fields["type"] == "AllBlocksCleared":
        return AllBlocksCleared()
    hashes = tuple(map(as_digest, fields["block_hashes"]))
    if fields["type"] == "BlockRemoved":
        return BlockRemoved(hashes, fields.get("group_idx", 0))
    extras = fields.get("extra_keys") or [None] * len(hashes)
    return BlockStored(
        hashes=hashes,
        parent=None if fields["parent"] is None else as_digest(fields["parent"]),
        tokens=array("I", fields["token_ids"]),
        block_size=fields["block_size"],
        lora=Lora(fields["lora_name"], fields["lora_id"]) if fields.get("lora_name") else None,
        extras=tuple(None if keys is None else tuple(map(as_key, keys)) for keys in extras),
        group=fields.get("group_idx", 0),
        spec=GroupSpec(fields.get("kv_cache_spec_sliding_window")),
        session=fields.get("session_id"),
    )


def as_key(key: Any) -> Any:
    """Give a recorded extra key as the engine keeps it."""
    return tuple(key) if isinstance(key, list) else key
