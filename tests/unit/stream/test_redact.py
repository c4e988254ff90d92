"""A redacted capture behaves like the original and says nothing of what was in it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsync.stream.capture import CaptureRecord, open_capture
from kvsync.stream.offline import Replayer
from kvsync.stream.redact import UNDECODABLE, Redactor
from kvsync.testing.model import ModelIndex
from kvsync.testing.wire import FORMS, Stored, encode_batch
from kvsync.types import Engine

CAPTURES = Path(__file__).parents[2] / "data" / "captures"
NAMES = ["s1_single_int", "s1_single_int_v0.12.0", "s1_single_int_v0.23.0", "s2_lora_dp_bytes", "s5_report_full"]
KEY = b"a key for tests"
SECRETS = ("adapter-of-alice", "salt-of-bob", "image-of-carol", "session-of-dave")


def replay(records: list[CaptureRecord]) -> ModelIndex:
    """
    Apply records to a fresh index.
    """
    index = ModelIndex()
    replayer = Replayer(index, model="m")
    for record in records:
        replayer.feed(record)
    replayer.finish()
    return index


def shape(index: ModelIndex, engine: Engine) -> Any:
    """
    What an index knows of an engine, but for the names of hashes.
    """
    counts = {
        (medium, group): sorted(hashes.values())
        for medium, groups in index.engine_hashes(engine).items()
        for group, hashes in groups.items()
    }
    record = index.record(engine)
    return counts, record.trust, record.lives, record.orphans, record.counters, record.dialect, record.block_size


@pytest.mark.parametrize("name", NAMES)
def test_a_redacted_capture_leads_to_the_same_state(name: str) -> None:
    """Copies, parents, re-announcements, trust and counters are those of the original."""
    redactor = Redactor(KEY)
    with open_capture(CAPTURES / f"{name}.msgpack") as capture:
        original = list(capture)
    hidden = [CaptureRecord(record.engine, record.channel, redactor.frames(record.frames)) for record in original]
    before, after = replay(original), replay(hidden)
    assert before.engines() == after.engines()
    for engine in before.engines():
        assert shape(after, engine) == shape(before, engine)


@pytest.mark.parametrize("form", FORMS)
def test_nothing_secret_is_left(form: str) -> None:
    """Names and token ids are gone from the bytes, whatever field they stood in."""
    lora, salt, image, session = SECRETS
    payload = encode_batch(
        [
            Stored(
                hashes=(1, 2),
                tokens=tuple(range(70_000, 70_008)),
                block_size=4,
                lora_id=lora,
                lora_name=lora,
                extra_keys=((lora, (image, -3), salt), (lora,)),
                cache_salt=salt,
                session_id=session,
                unknown={"a_later_field": salt},
            )
        ],
        form=form,
    )
    hidden = Redactor(KEY).payload(payload)
    assert not any(secret.encode() in hidden for secret in SECRETS)
    assert not any(msgpack.packb(token) in hidden for token in range(70_000, 70_008))


def test_prefixes_stay_prefixes() -> None:
    """The same token is the same replacement, in every payload of one redactor."""
    redactor = Redactor(KEY)
    long, short = (_tokens(redactor, tuple(range(n))) for n in (12, 8))
    assert long[:8] == short
    assert len(set(long)) == 12


def test_another_key_gives_other_values() -> None:
    """Without the key nobody can compare, and each redactor draws its own."""
    assert _tokens(Redactor(), (1, 2, 3)) != _tokens(Redactor(), (1, 2, 3))
    assert _tokens(Redactor(KEY), (1, 2, 3)) == _tokens(Redactor(KEY), (1, 2, 3))


@given(tokens=st.sets(st.integers(0, 2**32 - 1), min_size=2, max_size=50))
def test_different_tokens_stay_different(tokens: set[int]) -> None:
    """The replacement is a permutation of 32 bits."""
    hidden = _tokens(Redactor(KEY), tuple(tokens))
    assert len(set(hidden)) == len(tokens)
    assert all(0 <= token < 2**32 for token in hidden)


def test_a_hash_is_the_same_whichever_sign_it_came_with() -> None:
    """Its 64 bits are replaced, and bytes keep their length."""
    redactor = Redactor(KEY)
    assert _hashes(redactor, -1) == _hashes(redactor, 2**64 - 1)
    assert _hashes(redactor, 5) != _hashes(redactor, 6)
    (wide,) = _hashes(redactor, bytes(32))
    assert isinstance(wide, bytes)
    assert len(wide) == 32


def test_an_end_marker_stays_one() -> None:
    """Topics and numbers are not touched, nor is an empty payload."""
    frames = [b"", b"topic", b"\xff" * 8, b""]
    assert Redactor(KEY).frames(frames) == frames


@given(payload=st.binary(min_size=1, max_size=60))
def test_what_cannot_be_decoded_is_hidden_whole(payload: bytes) -> None:
    """Any bytes are redacted or replaced, never passed on and never an error."""
    hidden = Redactor(KEY).payload(payload)
    assert hidden == UNDECODABLE or isinstance(msgpack.unpackb(hidden, strict_map_key=False), list | dict)


def _tokens(redactor: Redactor, tokens: tuple[int, ...]) -> list[int]:
    payload = encode_batch([Stored(hashes=(1,), tokens=tokens, block_size=len(tokens))])
    found: list[int] = msgpack.unpackb(redactor.payload(payload))[1][0]["token_ids"]
    return found


def _hashes(redactor: Redactor, engine_hash: int | bytes) -> list[int | bytes]:
    payload = msgpack.packb([0.0, [["BlockRemoved", [engine_hash]]], 0])
    found: list[int | bytes] = msgpack.unpackb(redactor.payload(payload))[1][0][1]
    return found
