"""
Whatever bytes come, the C index and the plain model do the same: skip the same events for the same reasons, and
leave the rest as it was.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgpack
import pytest

from kvsync.index import Index
from kvsync.testing.compare import compare_answers, compare_records
from kvsync.testing.history import ODD, UNREADABLE, Question, deep
from kvsync.testing.model import ModelIndex
from kvsync.testing.prompts import Prompt
from kvsync.testing.truth import live_frames
from kvsync.testing.wire import FORMS, Cleared, Event, Removed, Stored, Verbatim, encode_batch
from kvsync.types import Applied, Engine, Trust

CAPTURES = Path(__file__).parents[2] / "data" / "captures"
MUTATIONS = int(os.environ.get("KVSYNC_BAD_PAYLOADS", "400"))
ENGINE = Engine("pod")
TOKENS = (1, 200, 70_000, 5, 6, 7, 8, 9)
QUESTION = Question("m", Prompt(TOKENS))
GOOD = [Stored((11, 12), None, TOKENS, 4)]
AFTER = [Stored((13,), 12, (1, 2, 3, 4), 4)]


class Both:
    """The two indexes, told the same."""

    def __init__(self) -> None:
        self.index = Index(seed=7)
        self.model = ModelIndex()
        self.number = 0

    def apply(self, payload: bytes) -> Applied:
        """Apply to both, check that they did the same and look the same, and say what they did."""
        mine = self.index.apply(ENGINE, payload, model="m", sequence=self.number)
        its = self.model.apply(ENGINE, payload, model="m", sequence=self.number)
        self.number += 1
        assert mine == its, payload.hex()
        compare_records(self.index, self.model, payload.hex())
        compare_answers(self.index, self.model, [QUESTION], payload.hex())
        return mine

    def blocks(self) -> int:
        """How many blocks of the usual question are held."""
        found = self.index.match(list(TOKENS), model="m")
        return found[ENGINE].blocks if ENGINE in found else 0

    def skipped(self) -> dict[str, int]:
        """How many events were skipped, by reason."""
        counters = self.index.record(ENGINE).counters
        return {name.removeprefix("skipped_"): n for name, n in counters.items() if n and name.startswith("skipped")}


@contextmanager
def both() -> Iterator[Both]:
    """Two indexes that hold the two good blocks."""
    pair = Both()
    try:
        assert pair.apply(encode_batch(GOOD)) == Applied(stored=2)
        yield pair
    finally:
        pair.index.close()
        pair.model.close()


def real_payloads() -> list[bytes]:
    """One frame of each recording, each with several kinds of events, and one of every form we know."""
    payloads = []
    for capture in sorted(CAPTURES.glob("*.msgpack")):
        frames = [frame.payload for frame in live_frames(capture)]
        payloads.append(next(payload for payload in frames[30:] if b"BlockRemoved" in payload and len(payload) < 600))
    events: list[Event] = [
        Stored((1 << 63, 2), None, TOKENS, 4, lora_id=1, lora_name="sql", extra_keys=(("sql", ("cat", -3)), None)),
        Removed((2, 3)),
        Stored((9,), medium="CPU"),
        Cleared(),
    ]
    return payloads + [encode_batch(events, form=form) for form in FORMS]


@pytest.mark.parametrize("payload", real_payloads(), ids=lambda payload: f"{len(payload)}-bytes")
def test_a_frame_cut_anywhere_is_applied_up_to_the_cut(payload: bytes) -> None:
    """Cut at every byte, a frame gives its whole events, one skip, and no more trust; what was held is still held."""
    whole = ModelIndex()
    everything = whole.apply(ENGINE, payload, model="m", sequence=0)
    for cut in range(len(payload)):
        with both() as pair:
            applied = pair.apply(payload[:cut])
            assert applied.skipped == 1
            assert applied.stored <= everything.stored
            assert pair.index.trust(ENGINE) in (Trust.STALE, Trust.PARTIAL)
            assert set(pair.skipped()) <= {"truncated", "batch"}


@pytest.mark.parametrize("value", UNREADABLE, ids=lambda value: repr(value)[:60])
def test_an_event_that_cannot_be_read_is_skipped_alone(value: Any) -> None:
    """The events before and after an unreadable one apply; it is counted, and what was held is doubted."""
    with both() as pair:
        applied = pair.apply(encode_batch([Removed((12,)), Verbatim(value), *GOOD]))
        assert (applied.removed, applied.skipped, applied.stored + applied.reannounced) == (1, 1, 2)
        assert pair.blocks() == 2
        assert pair.index.trust(ENGINE) is Trust.PARTIAL
        assert sum(pair.skipped().values()) == 1


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_an_event_that_is_only_odd_does_no_harm(value: Any) -> None:
    """Unknown tags and fields, and events about nothing, change nothing and cost no trust."""
    with both() as pair:
        assert pair.apply(encode_batch([Verbatim(value), *AFTER])) == Applied(stored=1)
        assert pair.index.trust(ENGINE) is Trust.EXACT


PLACES = ["event", "field", "unknown field", "extra key", "token", "hash", "ts", "tail", "key"]


def depth_bomb(where: str, levels: int) -> bytes:
    """A batch with a good event, and something that nests so deep."""
    bomb = b"\x91" * (levels - 1) + b"\x90"
    marker = "\x01bomb"
    packed = msgpack.packb(marker)
    stored = {
        "type": "BlockStored",
        "block_hashes": [13],
        "parent_block_hash": 12,
        "token_ids": [1, 2, 3, 4],
        "block_size": 4,
    }
    events: list[Any] = [stored]
    batch: Any = [1.0, events, 0]
    match where:
        case "event":
            events.insert(0, marker)
        case "field":
            events.insert(0, {**stored, "locality": marker})
        case "unknown field":
            events.insert(0, {**stored, "news": marker})
        case "extra key":
            events.insert(0, {**stored, "extra_keys": [["text", marker]]})
        case "token":
            events.insert(0, {**stored, "token_ids": [marker]})
        case "hash":
            events.insert(0, {**stored, "block_hashes": [marker]})
        case "ts":
            batch[0] = marker
        case "tail":
            batch.append(marker)
        case "key":
            events.insert(0, {**stored, marker: 1})
    return bytes(msgpack.packb(batch)).replace(packed, bomb)


@pytest.mark.parametrize("levels", [20, 40, 1000])
@pytest.mark.parametrize("where", PLACES)
def test_depth_bombs_go_off_without_harm(where: str, levels: int) -> None:
    """However deep something nests, wherever it stands, the rest of the batch applies."""
    with both() as pair:
        applied = pair.apply(depth_bomb(where, levels))
        assert applied.stored >= 1
        assert applied.skipped == (
            0 if where in ("ts", "tail") else int(levels > 20 or where not in ("field", "unknown field", "extra key"))
        )


@pytest.mark.parametrize("where", PLACES)
def test_a_depth_bomb_for_the_stack_is_one_of_a_thousand_levels(where: str) -> None:
    """Two hundred thousand levels, more than any stack has frames for, do to the C index what a thousand do."""
    with Index(seed=7) as deep_one, Index(seed=7) as other:
        done = []
        for index, levels in ((deep_one, 200_000), (other, 1000)):
            index.apply(ENGINE, encode_batch(GOOD), model="m", sequence=0)
            done.append(index.apply(ENGINE, depth_bomb(where, levels), model="m", sequence=1))
        assert done[0] == done[1]
        compare_records(deep_one, other, where)
        compare_answers(deep_one, other, [QUESTION], where)


def absurd(kind: str) -> list[bytes]:
    """Heads that promise far more than follows."""
    heads = {
        "array": [b"\xdd\xff\xff\xff\xff", b"\xdc\xff\xff", b"\xdd\x7f\xff\xff\xff"],
        "map": [b"\xdf\xff\xff\xff\xff", b"\xde\xff\xff"],
        "text": [b"\xdb\xff\xff\xff\xff", b"\xda\xff\xff", b"\xd9\xff"],
        "bytes": [b"\xc6\xff\xff\xff\xff", b"\xc5\xff\xff"],
        "ext": [b"\xc9\xff\xff\xff\xff\x01", b"\xc7\xff\x01"],
    }
    return heads[kind]


@pytest.mark.parametrize("kind", ["array", "map", "text", "bytes", "ext"])
def test_absurd_lengths_cost_nothing(kind: str) -> None:
    """A length that the bytes cannot hold ends the payload there, wherever it stands."""
    marker = b"\xa5\x01here"
    for head in absurd(kind):
        for batch in (
            "\x01here",
            ["\x01here", [], 0],
            [1.0, "\x01here", 0],
            [1.0, ["\x01here"], 0],
            [1.0, [["BlockRemoved", [12]], ["BlockStored", "\x01here"]], 0],
            [1.0, [["BlockRemoved", [12]], ["BlockStored", [1, "\x01here"], None, [1], 1, None]], 0],
            [1.0, [["BlockRemoved", [12]], {"type": "BlockStored", "news": "\x01here"}], 0],
            [1.0, [["BlockRemoved", [12]]], "\x01here"],
        ):
            payload = msgpack.packb(batch)
            assert marker in payload
            with both() as pair:
                applied = pair.apply(payload[: payload.index(marker)] + head)
                assert applied.skipped == 1
                assert applied.removed == (b"BlockRemoved" in payload)


def test_junk_does_what_junk_does_in_the_model() -> None:
    """Random bytes, and random bytes dressed as a batch, leave both indexes alike and the engine doubted."""
    rng = random.Random(1)
    with both() as pair:
        for _ in range(MUTATIONS):
            junk = rng.randbytes(rng.randrange(60))
            pair.apply(
                rng.choice((junk, b"\x93\x01\x91" + junk, b"\x93\x01\x91\x96\xabBlockStored\x92\x01\x02" + junk))
            )


def test_flipped_bytes_do_what_they_do_in_the_model() -> None:
    """Real frames with some bytes changed, lost, doubled or swapped in from elsewhere leave both indexes alike."""
    rng = random.Random(2)
    payloads = real_payloads()
    for _ in range(MUTATIONS // 20):
        with both() as pair:
            for _ in range(20):
                payload = bytearray(rng.choice(payloads))
                for _ in range(rng.choice((1, 1, 2, 5))):
                    at = rng.randrange(len(payload))
                    match rng.randrange(4):
                        case 0:
                            payload[at] = rng.randrange(256)
                        case 1:
                            del payload[at : at + rng.randint(1, 4)]
                        case 2:
                            payload[at:at] = payload[at : at + rng.randint(1, 20)]
                        case 3:
                            payload[at] = rng.choice(b"\x90\x91\x80\x81\xc0\xc1\xc4\xcf\xd3\xd9\xdc\xdf\xa0\xff\x00")
                pair.apply(bytes(payload))


def test_bytes_behind_a_batch_are_counted_and_passed_over() -> None:
    """What follows a whole batch is counted once and changes nothing."""
    with both() as pair:
        assert pair.apply(encode_batch(AFTER) + b"more") == Applied(stored=1)
        assert pair.index.record(ENGINE).counters["trailing"] == 1
        assert pair.index.trust(ENGINE) is Trust.EXACT


def test_a_bad_payload_uses_its_number_up() -> None:
    """A frame that cannot be read at all was still that frame: the next number continues."""
    with both() as pair:
        assert pair.apply(b"\xc1") == Applied(skipped=1)
        assert pair.apply(encode_batch(AFTER)) == Applied(stored=1)
        assert pair.index.record(ENGINE).counters["gaps"] == 0


@pytest.mark.parametrize("empty", [b"", b"\x92\x01\x90", b"\x81\xa6events\x90"])
def test_a_frame_without_events_does_nothing(empty: bytes) -> None:
    """No bytes are an unreadable batch; a batch without events is fine."""
    with both() as pair:
        assert pair.apply(empty) == Applied(skipped=0 if empty else 1)


def test_deep_is_as_deep_as_it_says() -> None:
    """The helper that builds bombs counts containers."""
    assert deep(1) == []
    assert deep(3) == [[[]]]
