"""A redacted capture behaves like the original and says nothing of what was in it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsync.stream.capture import CaptureRecord, open_capture
from kvsync.stream.offline import Replayer
from kvsync.stream.redact import UNDECODABLE, Redactor
from kvsync.testing.compare import play
from kvsync.testing.history import Apply, History
from kvsync.testing.model import ModelIndex
from kvsync.testing.prompts import PromptBook
from kvsync.testing.wire import FORMS, Stored, encode_batch
from kvsync.types import Engine

CAPTURES = Path(__file__).parents[2] / "data" / "captures"
NAMES = ["s1_single_int_v0.12.0", "s1_single_int_v0.23.0", "s2_lora_dp_bytes", "s3_hybrid_swa", "s5_report_full"]
LEAVES_MAX = 20
HISTORIES = range(20)
STEPS = 60
KEY = b"a key for tests"
SAID = b"what nobody may see"
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
def test_a_redacted_capture_behaves_as_the_original(name: str) -> None:
    """Copies, parents, trust and counters are the same, and its prompts find as many blocks of it, everywhere."""
    redactor = Redactor(KEY)
    with open_capture(CAPTURES / f"{name}.msgpack") as capture:
        original = list(capture)
    hidden = [CaptureRecord(record.engine, record.channel, redactor.frames(record.frames)) for record in original]
    before, after = replay(original), replay(hidden)
    assert before.engines() == after.engines()
    for engine in before.engines():
        assert shape(after, engine) == shape(before, engine)
    found = [match_all(index, records) for index, records in ((before, original), (after, hidden))]
    assert found[0] == found[1]
    assert any(found[0])


def match_all(index: ModelIndex, records: list[CaptureRecord]) -> Any:
    """
    What every engine holds of the prompts that records tell of.
    """
    book = PromptBook()
    for record in records:
        if record.channel == "pub":
            book.add_payload(record.frames[-1])
    found = []
    for leaf in book.leaves()[:LEAVES_MAX]:
        prompt = book.prompt(leaf)
        held = index.match(
            prompt.tokens, model="m", lora=prompt.lora, cache_salt=prompt.cache_salt, extra_keys=prompt.extra_keys
        )
        found.append({engine: (one.blocks, one.tokens, dict(one.by_medium)) for engine, one in held.items()})
    return found


@pytest.mark.parametrize("seed", HISTORIES)
def test_what_is_odd_stays_odd(seed: int) -> None:
    """Masked ranges, placeholders, pairs and events that cannot be applied are counted as the originals are."""
    redactor = Redactor(KEY)
    indexes = ModelIndex(), ModelIndex()
    for operation in History(seed, steps=STEPS):
        hidden = operation
        if isinstance(operation, Apply):
            hidden = replace(operation, payload=redactor.payload(operation.payload))
            if hidden.payload == UNDECODABLE:
                operation = hidden  # of a broken batch, the events before the break are hidden with the rest
        for index, told in zip(indexes, (operation, hidden), strict=True):
            play(index, told)
    before, after = indexes
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


def test_prefixes_stay_prefixes_by_whole_blocks() -> None:
    """Equal blocks are equal, wherever they stand; a block that differs in one token has none of them in common."""
    redactor = Redactor(KEY)
    first, second = (1, 2, 3, 4), (1, 2, 3, 5)
    long, short, other = (
        _tokens(redactor, tokens, 4) for tokens in ((*first, *first), (*first, 9, 9), (*second, *first))
    )
    assert long[:4] == long[4:] == short[:4] == other[4:]
    assert len({*long[:4], *other[:4]}) == 8


def test_no_token_shows_by_how_often_it_occurs() -> None:
    """The commonest token of many different blocks is hidden as another each time."""
    redactor = Redactor(KEY)
    hidden = _tokens(redactor, tuple(token for n in range(500) for token in (7, 7, 7, n)), 4)
    assert len(set(hidden)) > 1_990


def test_a_rest_and_a_missing_block_size_are_blocks_too() -> None:
    """Tokens beyond the last whole block are replaced as one; without a size, all are."""
    redactor = Redactor(KEY)
    assert _tokens(redactor, (1, 2, 3, 4, 5), 4)[4:] == _tokens(redactor, (5,), 4)
    assert set(_tokens(redactor, (1, 2, 3, 4), 0)).isdisjoint(_tokens(redactor, (1, 2, 3, 5), 0))


def test_pairs_are_hidden_as_their_first_tokens() -> None:
    """EAGLE's blocks equal those of plain tokens, and what follows a token goes."""
    redactor = Redactor(KEY)
    event = Stored(hashes=(1,), tokens=(1, 2, 3, 4), block_size=4, pairs=True)
    hidden = msgpack.unpackb(redactor.payload(encode_batch([event])))[1][0]["token_ids"]
    assert hidden == [[token, 0] for token in _tokens(redactor, (1, 2, 3, 4), 4)]


def test_tokens_outside_blocks_are_dropped() -> None:
    """The few that are looked ahead to would be a cipher of single tokens."""
    event = Stored(hashes=(1,), tokens=(1, 2), block_size=2, lookahead=(3,))
    hidden = msgpack.unpackb(Redactor(KEY).payload(encode_batch([event])))[1][0]
    assert hidden["lookahead_token_ids"] is None


def test_another_key_gives_other_values() -> None:
    """Without the key nobody can compare, and each redactor draws its own."""
    assert _tokens(Redactor(), (1, 2, 3), 3) != _tokens(Redactor(), (1, 2, 3), 3)
    assert _tokens(Redactor(KEY), (1, 2, 3), 3) == _tokens(Redactor(KEY), (1, 2, 3), 3)


@pytest.mark.parametrize("size", [1, 2, 3, 16, 33])
@given(blocks=st.data())
def test_different_blocks_stay_different(size: int, blocks: st.DataObject) -> None:
    """The replacement is a permutation, whatever the block size."""
    token = st.integers(0, 2**32 - 1)
    one, other = blocks.draw(
        st.lists(st.lists(token, min_size=size, max_size=size), min_size=2, max_size=2, unique_by=tuple)
    )
    hidden = _tokens(Redactor(KEY), (*one, *other), size)
    assert hidden[:size] != hidden[size:]
    assert all(0 <= token < 2**32 for token in hidden)


def test_a_hash_is_the_same_whichever_sign_it_came_with() -> None:
    """Its 64 bits are replaced, and bytes keep their length."""
    redactor = Redactor(KEY)
    assert _hashes(redactor, -1) == _hashes(redactor, 2**64 - 1)
    assert _hashes(redactor, 5) != _hashes(redactor, 6)
    (wide,) = _hashes(redactor, bytes(32))
    assert isinstance(wide, bytes)
    assert len(wide) == 32


@pytest.mark.parametrize(
    "frames", [[b"t", b"n" * 8, SAID, b"!"], [SAID, b"x"], [b"", SAID, b"", b"n" * 8, b"!"], [SAID, b"n" * 9, b"!"]]
)
def test_a_message_of_no_known_shape_is_hidden_whole(frames: list[bytes]) -> None:
    """Where no frame can be told to be the payload, each may be; there are as many of them as before."""
    hidden = Redactor(KEY).frames(frames)
    assert len(hidden) == len(frames)
    assert SAID not in hidden


def test_an_end_marker_stays_one() -> None:
    """Topics and numbers are not touched, nor is an empty payload."""
    frames = [b"", b"topic", b"\xff" * 8, b""]
    assert Redactor(KEY).frames(frames) == frames


@given(payload=st.binary(min_size=1, max_size=60))
def test_what_cannot_be_decoded_is_hidden_whole(payload: bytes) -> None:
    """Any bytes are redacted or replaced, never passed on and never an error."""
    hidden = Redactor(KEY).payload(payload)
    assert hidden == UNDECODABLE or isinstance(msgpack.unpackb(hidden, strict_map_key=False), list | dict)


def _tokens(redactor: Redactor, tokens: tuple[int, ...], block_size: int) -> list[int]:
    payload = encode_batch([Stored(hashes=(1,), tokens=tokens, block_size=block_size)])
    found: list[int] = msgpack.unpackb(redactor.payload(payload))[1][0]["token_ids"]
    return found


def _hashes(redactor: Redactor, engine_hash: int | bytes) -> list[int | bytes]:
    payload = msgpack.packb([0.0, [["BlockRemoved", [engine_hash]]], 0])
    found: list[int | bytes] = msgpack.unpackb(redactor.payload(payload))[1][0][1]
    return found
