"""Captures one may pass on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsync.cli.redact import UNDECODABLE, Redactor
from kvsync.cli.replay import dump_json, summary_json
from kvsync.index import Index
from kvsync.stream.capture import CaptureRecord, open_capture
from kvsync.stream.frames import EndMarker, read_live, read_replay
from kvsync.stream.offline import Replayer

CAPTURES = sorted((Path(__file__).parents[2] / "data" / "captures").glob("*.msgpack"))
SECRET = b"for tests"
REDACTOR = Redactor(SECRET)
TOKENS = list(range(100, 132))
STORED: dict[str, Any] = {
    "type": "BlockStored",
    "block_hashes": [11, 12],
    "parent_block_hash": None,
    "token_ids": TOKENS,
    "block_size": 16,
    "lora_id": 3,
    "medium": "GPU",
    "lora_name": "adapter",
    "extra_keys": [["adapter", ["image-7", -4], "salt-of-tenant-9"], None],
    "group_idx": 0,
    "session_id": "session-of-anna",
}


def redacted(*events: Any, redactor: Redactor = REDACTOR) -> list[Any]:
    """Events, redacted, as they are read back."""
    payload = redactor.payload(msgpack.packb([1.5, list(events), 2]))
    ts, back, rank = msgpack.unpackb(payload)
    assert (ts, rank) == (1.5, 2)
    return list(back)


def records(path: Path, redactor: Redactor | None) -> Iterator[CaptureRecord]:
    """The records of a capture, redacted or not."""
    for record in open_capture(path):
        message = read_live(record.frames) if record.channel == "pub" else read_replay(record.frames)
        if redactor is not None and not isinstance(message, EndMarker):
            frames = [*record.frames[:-1], redactor.payload(record.frames[-1])]
            record = CaptureRecord(record.engine, record.channel, frames)
        yield record


@pytest.mark.parametrize("path", CAPTURES, ids=lambda path: path.stem)
def test_a_redacted_capture_leads_to_the_same_record(path: Path) -> None:
    """Blocks, copies, trust and every counter are those of the original."""
    outcomes = []
    for redactor in (None, REDACTOR):
        with Index(seed=1) as index:
            replayer = Replayer(index, model="m")
            for record in records(path, redactor):
                replayer.feed(record)
            frames = replayer.finish()
            outcomes.append((dump_json(index, replayer, frames), summary_json(index, replayer, frames)))
    assert outcomes[0] == outcomes[1]


def test_no_text_is_left() -> None:
    """Token ids, salts, image names and session names are gone; the adapter's name, hashes and sizes stay."""
    [event] = redacted(STORED)
    text = repr(event)
    assert not any(word in text for word in ("salt-of", "image-7", "anna"))
    assert event["token_ids"] != TOKENS
    assert len(event["token_ids"]) == len(TOKENS)
    for kept in ("block_hashes", "parent_block_hash", "block_size", "lora_name", "medium", "group_idx"):
        assert event[kept] == STORED[kept]
    assert event["extra_keys"][0][0] == "adapter"
    assert event["extra_keys"][0][1][1] == -4


def test_equal_blocks_stay_equal_and_others_differ() -> None:
    """Sharing survives: a block is rewritten by its own tokens alone."""
    again = STORED | {"token_ids": [1] * 16 + TOKENS[16:]}
    first, second = redacted(STORED, again)
    assert first["token_ids"][16:] == second["token_ids"][16:]
    assert first["token_ids"][:16] != second["token_ids"][:16]


def test_two_redactors_have_nothing_in_common() -> None:
    """The secret of a run is forgotten with it, so two captures cannot be laid side by side."""
    [one] = redacted(STORED, redactor=Redactor())
    [other] = redacted(STORED, redactor=Redactor())
    assert one["token_ids"] != other["token_ids"]


def test_the_form_stays() -> None:
    """An array stays an array of the same length, a pair of tokens a pair, a signed hash signed."""
    pairs = ["BlockStored", [-5], None, [[1, 2], [2, 3]], 2, None, "GPU"]
    [event] = redacted(pairs)
    assert len(event) == len(pairs)
    assert event[1] == [-5]
    assert all(isinstance(pair, list) and len(pair) == 2 for pair in event[3])


def test_what_is_unknown_keeps_its_name_only() -> None:
    """A field or an event of a later release may hold anything, so its value goes."""
    removed = {"type": "BlockRemoved", "block_hashes": [1], "prompt": "once upon"}
    strange = {"type": "PromptSeen", "text": "a time"}
    assert redacted(removed, strange, ["PromptSeen", "there was"], "a king") == [
        {"type": "BlockRemoved", "block_hashes": [1], "prompt": None},
        {"type": "PromptSeen"},
        ["PromptSeen"],
        None,
    ]


@pytest.mark.parametrize("payload", [b"", b"\xc1", b"\x93\x01", b"\x05", msgpack.packb([1.0, "events"])])
def test_what_cannot_be_read_is_replaced(payload: bytes) -> None:
    """By a byte that cannot be read either."""
    assert REDACTOR.payload(payload) == UNDECODABLE


@given(st.text(min_size=6, max_size=20))
def test_no_field_lets_text_through(secret: str) -> None:
    """Wherever a text stands in a stored event, but for the adapter's name and short words, it does not come out."""
    event = [
        *("BlockStored", [secret], None, [secret], 1, None, "GPU", "adapter", [[secret, [secret, 1]]], 0),
        *("full_attention", None, secret, [secret], {"x": secret}),
    ]
    assert secret not in repr(redacted(event))
