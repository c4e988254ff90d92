"""The decoder for people."""

from __future__ import annotations

import json
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsync.cli.eventview import EventView, decode_batch, describe, hash_text, short

MAP_STORED: dict[str, Any] = {
    "type": "BlockStored",
    "block_hashes": [2**63, b"\x0a\xff"],
    "parent_block_hash": None,
    "token_ids": [1, 2, 3, 4],
    "block_size": 2,
    "medium": "gpu",
    "lora_name": "adapter",
    "extra_keys": [["adapter", "secret-salt"], None],
    "novel": {b"k": 1},
}
ARRAY_STORED = ["BlockStored", [-1], 7, [1, 2], 2, None, "CPU", None, [["secret-salt"]], 3, "full_attention", None, 99]


def batch(*events: Any) -> bytes:
    """A payload of these events."""
    return bytes(msgpack.packb([1.5, list(events), 0]))


def test_both_forms_give_fields_by_name() -> None:
    """A map's fields and an array's positions come out under the same names; what lies beyond gets its position."""
    view = decode_batch(batch(MAP_STORED, ARRAY_STORED))
    first, second = view.events
    assert view.ts == 1.5
    assert (first.tag, first.fields["block_size"], first.fields["medium"]) == ("BlockStored", 2, "gpu")
    assert (second.fields["parent_block_hash"], second.fields["group_idx"], second.fields["+12"]) == (7, 3, 99)


def test_hashes_are_unsigned_decimal_or_hex() -> None:
    """As dumps write them: the sign is only another way to send the same bits."""
    assert [hash_text(value) for value in (5, -1, b"\x0a\xff")] == ["5", str(2**64 - 1), "0aff"]


def test_json_keeps_texts_and_secrets_to_itself() -> None:
    """Token ids, extra keys and salts are counted, not shown, unless asked for."""
    [event] = decode_batch(batch(MAP_STORED)).events
    told = event.to_json()
    assert "secret-salt" not in json.dumps(told)
    assert (told["tokens_count"], told["has_extra_keys"]) == (4, True)
    assert told["block_hashes"] == [str(2**63), "0aff"]
    asked = event.to_json(tokens=True)
    assert asked["token_ids"] == [1, 2, 3, 4]
    assert "secret-salt" in json.dumps(asked)


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (
            MAP_STORED,
            "stored GPU 2 blocks (4 tokens) from the start lora adapter with extra keys: 922337203… 0aff",
        ),
        (ARRAY_STORED, "stored CPU group 3 1 block (2 tokens) after 7 with extra keys: 184467440…"),
        (["BlockRemoved", [1, 2, 3, 4, 5]], "removed GPU 5 blocks: 1 2 3 … 5"),
        ({"type": "AllBlocksCleared"}, "cleared"),
        (["BlockMoved", 1], "BlockMoved: unknown to us"),
        (7, "unreadable: an event is a number, neither an array that begins with a text nor a map with a type"),
    ],
)
def test_every_event_has_a_line(event: Any, line: str) -> None:
    """What is known is told in words, what is not is named."""
    [view] = decode_batch(batch(event)).events
    assert describe(view) == line


@pytest.mark.parametrize(
    ("payload", "said"),
    [
        (b"", "ends early"),
        (batch(MAP_STORED)[:-3], "ends early"),
        (b"\xc1", "not msgpack"),
        (b"\x91" * 100_000, "nested too deeply"),
        (b"\x05", "the batch is a number"),
        (b"\xc0", "the batch is nil"),
        (msgpack.packb([1.0]), "an array of 1"),
        (msgpack.packb([1.0, "x"]), "the events are text"),
        (msgpack.packb({"ts": 1.0}), "the events are nil"),
    ],
)
def test_what_cannot_be_read_is_one_unreadable_event(payload: bytes, said: str) -> None:
    """It says why."""
    [event] = decode_batch(payload).events
    assert event.tag == "unreadable"
    assert said in describe(event)


@given(st.binary(max_size=200))
def test_no_bytes_are_too_bad(payload: bytes) -> None:
    """Whatever comes can be told in lines and as JSON."""
    for event in decode_batch(payload).events:
        describe(event)
        json.dumps(event.to_json(tokens=True)).encode()


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats()
    | st.text(max_size=5)
    | st.binary(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.integers(0, 9), inner, max_size=3)
    ),
    max_leaves=12,
)


@given(st.sampled_from(["BlockStored", "BlockRemoved", "AllBlocksCleared", "Other"]), st.lists(PLAIN, max_size=14))
def test_no_fields_are_too_odd(tag: str, fields: list[Any]) -> None:
    """A known event with fields of any type is shown all the same."""
    for event in decode_batch(batch([tag, *fields])).events:
        describe(event)
        json.dumps(event.to_json(tokens=True)).encode()


def test_text_that_is_not_utf8_is_shown_escaped() -> None:
    """A broken name does not stop the rest."""
    broken = b"\x92\xcb" + bytes(8) + b"\x91\x92\xacBlockRemoved\x90"
    [event] = decode_batch(broken.replace(b"Removed", b"Rem\xffved")).events
    assert describe(event) == "BlockRem\\xffved: unknown to us"


def test_long_hashes_are_cut_for_the_screen() -> None:
    """A short one stays whole."""
    assert (short("123"), short("1234567890123")) == ("123", "123456789…")


@pytest.mark.parametrize(
    ("keys", "has"), [([None, None], False), ([None, ["image"]], True), ([], False), (None, False)]
)
def test_blocks_without_extra_keys_have_none(keys: object, has: bool) -> None:
    """A nil for each block, as engines send for plain prompts, is no extra key."""
    event = EventView("BlockStored", {"block_hashes": [1, 2], "extra_keys": keys})
    assert ("with extra keys" in describe(event)) is has
    assert event.to_json()["has_extra_keys"] is has
