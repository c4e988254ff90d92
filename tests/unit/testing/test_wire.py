"""The writer of event batches, held against the facts known of each release."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import msgpack
import pytest

from kvsync.testing.decoder import ClearedEvent, Dialect, LoraId, RemovedEvent, StoredEvent, decode_payload
from kvsync.testing.wire import FORMS, Cleared, Event, Removed, Stored, Verbatim, encode_batch

EVENT = Stored(
    hashes=((1 << 63) + 5, 2),
    parent=(1 << 64) - 1,
    tokens=(1, 2, 3, 4),
    block_size=2,
    lora_id=1,
    lora_name="sql",
    medium="GPU",
    extra_keys=(("sql", ("cat", -3)), None),
    group=1,
    spec_kind="sliding_window",
    window=96,
    cache_salt="s",
    session_id="x",
    locality="LOCAL",
    ownership="me",
    lookahead=(5,),
)
ARRAYS = {
    "vllm-0.9.0": (6, 2),
    "vllm-0.9.1": (6, 2),
    "vllm-0.10.2": (7, 3),
    "vllm-0.14": (8, 3),
    "vllm-0.17": (9, 3),
    "vllm-0.20": (10, 4),
    "vllm-0.22": (12, 4),
    "sglang-0.5.10": (7, 3),
}
MAPS = [form for form in FORMS if form not in ARRAYS]
ALWAYS = {"type", "block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium"}


def sent(event: Event, form: str) -> Any:
    """An event as the msgpack library reads it back."""
    batch = msgpack.unpackb(encode_batch([event], form=form))
    return batch["events"][0] if isinstance(batch, dict) else batch[1][0]


@pytest.mark.parametrize("form", ARRAYS)
def test_arrays_have_every_field_of_their_release(form: str) -> None:
    """An array is as long as its release made it, trailing nil included."""
    bare = Stored((1,), None, (1,), 1)
    assert [len(sent(event, form)) for event in (EVENT, bare, Removed((1,)), Cleared())] == [
        ARRAYS[form][0],
        ARRAYS[form][0],
        ARRAYS[form][1],
        1,
    ]


@pytest.mark.parametrize("form", MAPS)
def test_maps_leave_out_what_is_not_there(form: str) -> None:
    """A map has its always-fields, and others only when they have a value."""
    bare = set(sent(Stored((1,), None, (1,), 1), form))
    assert bare - {"lora_name"} == ALWAYS
    assert ("lora_name" in bare) == ("lora_name" in FORMS[form].stored)
    assert set(sent(Removed((1,)), form)) == {"type", "block_hashes", "medium"}
    assert sent(Cleared(), form) == {"type": "AllBlocksCleared"}
    assert set(sent(EVENT, form)) == {"type", *FORMS[form].stored}


def test_fields_came_one_release_after_the_other() -> None:
    """Each release writes what the one before it wrote, and more."""
    vllm = [form for form in FORMS if form.startswith("vllm-0")]
    for before, after in pairwise(vllm):
        assert set(FORMS[before].stored) <= set(FORMS[after].stored)
        assert set(FORMS[before].removed) <= set(FORMS[after].removed)


def test_the_oldest_batch_has_two_elements() -> None:
    """The rank came with 0.9.1."""
    assert len(msgpack.unpackb(encode_batch([Cleared()], form="vllm-0.9.0"))) == 2
    assert msgpack.unpackb(encode_batch([Cleared()], form="vllm-0.9.1", ts=2.5, rank=3)) == [
        2.5,
        [["AllBlocksCleared"]],
        3,
    ]


def test_signed_engines_write_signed_hashes() -> None:
    """The same 64 bits, the first of them a sign."""
    assert sent(EVENT, "sglang-0.5.10")[1:3] == [[-(1 << 63) + 5, 2], -1]
    assert sent(EVENT, "vllm-0.10.2")[1:3] == [[(1 << 63) + 5, 2], (1 << 64) - 1]


@pytest.mark.parametrize("form", FORMS)
def test_what_is_written_is_what_is_read(form: str) -> None:
    """The plain decoder reads every form back to what its release could say."""
    how = FORMS[form]
    payload = encode_batch([EVENT, Removed((2, b"\x01"), "CPU", 3), Cleared()], form=form)
    stored, removed, cleared = decode_payload(payload).events
    has = set(how.stored)
    image: Any = ("cat", -3) if how.image_offsets else "cat"
    assert stored == StoredEvent(
        hashes=EVENT.hashes,
        parent=EVENT.parent,
        tokens=EVENT.tokens,
        block_size=2,
        lora="sql" if "lora_name" in has else LoraId("1"),
        medium="GPU",
        group=1 if how.groups else 0,
        spec_kind="sliding_window" if "kv_cache_spec_kind" in has else None,
        window=96 if "kv_cache_spec_sliding_window" in has else None,
        extras=((image,), ()) if how.extras else None,
        cache_salt="s" if how.salts else None,
        dialect=Dialect.TAGGED if how.maps or how.groups else Dialect.UNTAGGED if how.extras else Dialect.ABSENT,
    )
    assert removed == RemovedEvent((2, b"\x01"), "CPU" if "medium" in how.removed else "GPU", 3 if how.groups else 0)
    assert cleared == ClearedEvent()


def test_pairs_name_each_token_with_the_next() -> None:
    """EAGLE's tokens are pairs."""
    event = Stored((1,), None, (7, 8, 9), 3, pairs=True)
    assert sent(event, "sglang-0.5.10")[3] == [[7, 8], [8, 9], [9, 0]]


def test_unknown_fields_stand_where_nothing_else_could() -> None:
    """Under their names in a map, behind the last known one in an array that has them all."""
    event = Stored((1,), None, (1,), 1, unknown={"news": 5})
    assert sent(event, "vllm-0.33")["news"] == 5
    assert sent(event, "vllm-0.22")[12:] == [5]
    assert len(sent(event, "vllm-0.14")) == 8


def test_verbatim_is_sent_as_it_is() -> None:
    """Any value may stand where an event should."""
    assert sent(Verbatim({"type": "Other", "x": [b"y"]}), "vllm-0.9.1") == {"type": "Other", "x": [b"y"]}
