"""The Index as its callers use it: what goes in, what comes out, what is refused, and how it ends."""

from __future__ import annotations

import gc
import threading
import time
from array import array
from bisect import bisect_left
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import msgpack
import numpy as np
import pytest
from tests.patience import PATIENCE_S

from kvsync.errors import ClosedError, ConfigError
from kvsync.index import LAG_BOUNDS_S, Index, Record
from kvsync.testing.wire import Cleared, Event, Removed, Stored, encode_batch
from kvsync.types import Applied, Engine, Match, Trust

MODEL = "llama"
SIZE = 16
TOKENS = tuple(range(1000, 1000 + 20 * SIZE))
POD, OTHER = Engine("default/a"), Engine("default/b", 3)

# Made once by another implementation of XXH3 (PyPI's xxhash 3) and the formula at the head of csrc/src/hash.h, for
# tokens 0 .. 47, model "llama", seed 42 or 43. They change only with the formula, and then no snapshot fits any more.
GOLDEN = [0x3B69D5D0387637FE, 0x7D389B405B163EE1, 0x1967D084373D4C52]
GOLDEN_IN_CONTEXT = [0x4C3E43FD47AFB746, 0x2BF9051C767A5E4B, 0x92FC5AD661745141]
GOLDEN_OF_48 = [0xCCEB2BC19B8B7576]
GOLDEN_OF_43 = [0x0DB65D9646B759F7, 0x49D0C58F2FB73F05, 0x869DFB975360ED90]


def stored(first: int, last: int, **fields: Any) -> Stored:
    """Blocks first .. last-1 of TOKENS, whose engine hashes are 1 + their place."""
    return Stored(
        tuple(range(first + 1, last + 1)),
        parent=first or None,
        tokens=TOKENS[first * SIZE : last * SIZE],
        block_size=SIZE,
        **fields,
    )


def frame(*events: Event) -> bytes:
    """One payload of these events."""
    return encode_batch(events)


@pytest.fixture
def index() -> Iterator[Index]:
    """An empty index with a fixed seed."""
    with Index(seed=42) as made:
        yield made


# ---------------------------------------------------------------------------------------------- making


@pytest.mark.parametrize("max_bytes", [0, -1, 2**63])
def test_a_ceiling_is_a_positive_number(max_bytes: int) -> None:
    """A ceiling that cannot be meant is refused with what can."""
    with pytest.raises(ValueError, match=f"max_bytes is {max_bytes}: give a positive number of bytes, or None"):
        Index(max_bytes=max_bytes)


@pytest.mark.parametrize("most", [0, -1, 2**63])
def test_a_limit_is_a_positive_number(most: int) -> None:
    """Of what one engine may hold; anything else is refused with what can be meant."""
    with pytest.raises(ValueError, match=f"engine_entries_max is {most}: give a positive number, or None"):
        Index(engine_entries_max=most)


def test_one_engine_cannot_hold_more_than_its_limit() -> None:
    """It gives up its own deepest blocks and turns partial; the other keeps what it has."""
    with Index(seed=42, engine_entries_max=12) as index:
        index.apply(OTHER, frame(stored(0, 12)), model=MODEL, sequence=0)
        index.apply(POD, frame(stored(0, 12)), model=MODEL, sequence=0)
        index.apply(POD, frame(stored(12, 16)), model=MODEL, sequence=1)
        assert 8 <= index.match(TOKENS, model=MODEL)[POD].blocks <= 12
        assert (index.trust(POD), index.trust(OTHER)) == (Trust.PARTIAL, Trust.EXACT)
        assert index.record(POD).counters["evicted"] == 16 - index.record(POD).media["GPU"].entries
        assert index.match(TOKENS, model=MODEL)[OTHER].blocks == 12


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_has_64_bits(seed: int) -> None:
    """A seed beyond 64 bits would be cut, so it is refused."""
    with pytest.raises(ValueError, match=f"seed is {seed}"):
        Index(seed=seed)


def test_an_index_shows_itself(index: Index) -> None:
    """Its repr says how large it is, or that it is closed."""
    index.apply(POD, frame(stored(0, 2)), model=MODEL)
    assert repr(index).startswith("<Index engines=1 blocks=2 bytes=")
    index.close()
    assert repr(index) == "<Index closed>"


# ---------------------------------------------------------------------------------------------- payloads


@pytest.mark.parametrize(
    "kind",
    [bytes, bytearray, memoryview, lambda data: np.frombuffer(data, dtype=np.uint8)],
    ids=["bytes", "bytearray", "memoryview", "numpy"],
)
def test_a_payload_is_any_buffer(index: Index, kind: Callable[[bytes], Any]) -> None:
    """A payload is taken as the socket gave it."""
    assert index.apply(POD, kind(frame(stored(0, 3))), model=MODEL, sequence=0) == Applied(stored=3)
    assert index.match(TOKENS, model=MODEL)[POD].blocks == 3


@pytest.mark.parametrize("wrong", ["text", None, 5, [1, 2]])
def test_a_payload_is_not_anything_else(index: Index, wrong: Any) -> None:
    """What is no buffer is the caller's mistake, not the engine's; nothing is recorded."""
    with pytest.raises(TypeError):
        index.apply(POD, wrong, model=MODEL, sequence=0)
    assert index.engines() == []


@pytest.mark.parametrize("sequence", [-1, 2**63])
def test_a_sequence_number_must_fit(index: Index, sequence: int) -> None:
    """Numbers outside what the record can hold are refused before anything happens."""
    with pytest.raises(ValueError, match=f"sequence is {sequence}"):
        index.apply(POD, frame(stored(0, 1)), model=MODEL, sequence=sequence)
    assert index.engines() == []


def test_the_largest_sequence_number(index: Index) -> None:
    """The last number there is can be applied, once."""
    assert index.apply(POD, frame(stored(0, 1)), model=MODEL, sequence=2**63 - 1).stored == 1
    assert index.apply(POD, frame(stored(1, 2)), model=MODEL, sequence=2**63 - 1).stored == 0
    assert index.record(POD).sequence == 2**63 - 1


# ---------------------------------------------------------------------------------------------- numbers


def test_a_duplicate_changes_nothing(index: Index) -> None:
    """A number up to the last one applied is counted and ignored."""
    for sequence in (0, 1):
        index.apply(POD, frame(stored(sequence, sequence + 1)), model=MODEL, sequence=sequence)
    for sequence in (0, 1):
        assert index.apply(POD, frame(Cleared()), model=MODEL, sequence=sequence) == Applied()
    assert index.match(TOKENS, model=MODEL)[POD].blocks == 2
    assert index.record(POD).counters["duplicate"] == 2
    assert index.trust(POD) is Trust.EXACT


def test_a_hole_makes_stale(index: Index) -> None:
    """What was held before a jump in numbers is doubtful; what comes after is not."""
    index.apply(POD, frame(stored(0, 2)), model=MODEL, sequence=0)
    index.apply(POD, frame(stored(2, 3)), model=MODEL, sequence=2)
    record = index.record(POD)
    assert (record.trust, record.sequence, record.counters["gaps"]) == (Trust.STALE, 2, 1)
    assert (record.media["GPU"].reason, record.media["GPU"].doubtful, record.media["GPU"].entries) == ("gap", 2, 3)
    assert index.match(TOKENS, model=MODEL)[POD] == Match(3, 48, {"GPU": 3}, certain=True, trust=Trust.STALE)


def test_without_numbers_there_are_no_holes(index: Index) -> None:
    """A stream without numbers is partial from its beginning, and never a duplicate."""
    for _ in range(3):
        index.apply(POD, frame(stored(0, 1)), model=MODEL)
    record = index.record(POD)
    assert (record.trust, record.sequence, record.counters["duplicate"]) == (Trust.PARTIAL, None, 0)


def test_a_restart_expects_number_zero(index: Index) -> None:
    """A new life drops what was known, and is exact once its beginning was seen."""
    index.apply(POD, frame(stored(0, 2)), model=MODEL, sequence=7)
    index.restart(POD)
    assert (index.record(POD).lives, index.trust(POD), index.engine_hashes(POD)) == (2, Trust.PARTIAL, {})
    index.apply(POD, frame(stored(0, 2)), model=MODEL, sequence=0)
    assert index.trust(POD) is Trust.EXACT


def test_an_empty_engine_continues_with_any_number(index: Index) -> None:
    """After `clear` the record is exact, whatever number comes next."""
    index.apply(POD, frame(stored(0, 2)), model=MODEL, sequence=7)
    index.clear(POD)
    index.apply(POD, frame(stored(0, 1)), model=MODEL, sequence=100)
    assert index.trust(POD) is Trust.EXACT
    assert index.match(TOKENS, model=MODEL)[POD].blocks == 1


# ---------------------------------------------------------------------------------------------- many frames


def test_many_frames_say_what_each_did(index: Index) -> None:
    """Frames of several engines, each with a number of its own, are answered one by one and in order."""
    said = index.apply_many(
        [
            (POD, frame(stored(0, 3)), MODEL, 0),
            (OTHER, bytearray(frame(stored(0, 2))), MODEL, None),
            (POD, frame(stored(0, 3)), MODEL, 0),
            (POD, memoryview(frame(Removed((3,)))), MODEL, 1),
        ]
    )
    assert said == [Applied(stored=3), Applied(stored=2), Applied(), Applied(removed=1)]
    assert {engine: found.blocks for engine, found in index.match(TOKENS, model=MODEL).items()} == {POD: 2, OTHER: 2}
    assert index.record(POD).counters["duplicate"] == 1
    assert index.apply_many([]) == []


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ((POD, frame(), MODEL, -1), ValueError),
        ((POD, "text", MODEL, 1), TypeError),
        ((POD, b"", "qwen", 1), ConfigError),
    ],
    ids=["number", "payload", "model"],
)
def test_a_wrong_frame_of_many_leaves_all_undone(index: Index, wrong: Any, error: type[Exception]) -> None:
    """A mistake of the caller's in the last frame is raised before the first is applied."""
    index.register(POD, model=MODEL)
    with pytest.raises(error):
        index.apply_many([(POD, frame(stored(0, 3)), MODEL, 0), wrong])
    assert index.match(TOKENS, model=MODEL) == {}
    assert index.record(POD).sequence is None


# ---------------------------------------------------------------------------------------------- engines


def test_an_engine_has_one_model(index: Index) -> None:
    """Registering again is nothing; for another model it is an error that names both."""
    index.register(POD, model=MODEL)
    index.register(POD, model=MODEL)
    for call in (
        lambda: index.register(POD, model="qwen"),
        lambda: index.apply(POD, frame(stored(0, 1)), model="qwen", sequence=0),
    ):
        with pytest.raises(ConfigError, match=r"default/a/0 .*'llama', not 'qwen': remove\(\) it first"):
            call()
    index.remove(POD)
    index.register(POD, model="qwen")
    assert index.record(POD).model == "qwen"


def test_a_registered_engine_is_unknown_until_heard(index: Index) -> None:
    """A record without a frame says nothing about the engine."""
    index.register(OTHER, model=MODEL)
    index.register(POD, model=MODEL)
    assert index.engines() == [POD, OTHER]
    assert index.trust(POD) is Trust.UNKNOWN
    assert index.record(POD) == Record(
        engine=POD,
        model=MODEL,
        trust=Trust.UNKNOWN,
        media={},
        sequence=None,
        lives=1,
        block_size=None,
        dialect=None,
        orphans=0,
        counters=dict.fromkeys(index.record(POD).counters, 0),
    )


def test_unknown_engines_are_no_error(index: Index) -> None:
    """Telling or asking about an engine that is not there does nothing; only its record is missing."""
    for call in (index.clear, index.restart, index.remove, lambda engine: index.doubt(engine, "why not")):
        call(POD)
    assert index.trust(POD) is Trust.UNKNOWN
    assert index.trust(POD, "GPU") is Trust.UNKNOWN
    assert index.engine_hashes(POD) == {}
    with pytest.raises(KeyError):
        index.record(POD)
    assert index.engines() == []


def test_media_are_told_by_name(index: Index) -> None:
    """Doubt and clear reach one medium, in any case; one that the engine never named is passed over."""
    index.apply(POD, frame(stored(0, 2), Stored((1, 2), medium="cpu")), model=MODEL, sequence=0)
    index.doubt(POD, "by hand", "Cpu")
    assert (index.trust(POD, "gpu"), index.trust(POD, "CPU")) == (Trust.EXACT, Trust.STALE)
    assert index.record(POD).media["CPU"].reason == "by hand"
    index.clear(POD, "CPU")
    assert (index.trust(POD), index.trust(POD, "cpu")) == (Trust.EXACT, Trust.EXACT)
    for medium in ("STORAGE", "x" * 100, "\0"):
        index.clear(POD, medium)
        index.doubt(POD, "by hand", medium)
        assert index.trust(POD, medium) is Trust.UNKNOWN
    assert index.trust(POD) is Trust.EXACT
    assert index.engine_hashes(POD) == {"GPU": {0: {1: 1, 2: 1}}}


def test_everything_held_is_listed(index: Index) -> None:
    """Integers unsigned, bytes as bytes, by medium and group, with copies."""
    index.apply(
        POD,
        frame(
            Stored((2**64 - 1,), tokens=TOKENS[:SIZE], block_size=SIZE),
            Stored((2**64 - 1,), tokens=TOKENS[:SIZE], block_size=SIZE),
            Stored((b"\0\xff" * 16, b"a"), tokens=TOKENS[: 2 * SIZE], block_size=SIZE, group=2),
            Stored((b"a", 7), medium="Storage"),
            Removed((b"a",), group=2),
        ),
        model=MODEL,
        sequence=0,
    )
    assert index.engine_hashes(POD) == {
        "GPU": {0: {2**64 - 1: 2}, 2: {b"\0\xff" * 16: 1}},
        "STORAGE": {0: {b"a": 1, 7: 1}},
    }


# ---------------------------------------------------------------------------------------------- matching


@pytest.mark.parametrize(
    "kind",
    [list, tuple, lambda tokens: array("I", tokens), lambda tokens: np.array(tokens, dtype=np.uint32)],
    ids=["list", "tuple", "array", "numpy"],
)
def test_tokens_in_any_form_match_alike(index: Index, kind: Callable[[Any], Any]) -> None:
    """Lists and buffers of the same tokens get the same answer."""
    index.apply(POD, frame(stored(0, 5)), model=MODEL, sequence=0)
    for count in (0, SIZE - 1, SIZE, 3 * SIZE + 5, 5 * SIZE, len(TOKENS)):
        found = index.match(kind(TOKENS[:count]), model=MODEL)
        assert (found[POD].blocks if found else 0) == min(5, count // SIZE)


@pytest.mark.parametrize(
    ("wrong", "error"),
    [([-1], ValueError), ([2**32], ValueError), (np.array([1]), TypeError), ("text", TypeError), (None, TypeError)],
    ids=["negative", "too large", "int64", "text", "none"],
)
def test_wrong_tokens_are_refused_everywhere(index: Index, wrong: Any, error: type[Exception]) -> None:
    """Matching and hashing refuse the same."""
    with pytest.raises(error):
        index.match(wrong, model=MODEL)
    with pytest.raises(error):
        index.match_many([wrong], model=MODEL)
    with pytest.raises(error):
        index.block_hashes(wrong, model=MODEL, block_size=SIZE)


CONTEXTS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "plain": ({}, {}),
    "lora": ({"lora_name": "adapter"}, {"lora": "adapter"}),
    "salt": ({"extra_keys": (("salt",), None, None)}, {"cache_salt": "salt"}),
    "another salt": ({"extra_keys": (("pepper",), None, None)}, {"cache_salt": "pepper"}),
    "image": (
        {"extra_keys": ((("image", 10),), (("image", -6),), None)},
        {"extra_keys": [("image", 10, 20)]},
    ),
    "image elsewhere": (
        {"extra_keys": ((("image", 9),), (("image", -7),), None)},
        {"extra_keys": [("image", 9, 20)]},
    ),
    "another image": (
        {"extra_keys": ((("photo", 10),), (("photo", -6),), None)},
        {"extra_keys": [("photo", 10, 20)]},
    ),
    "all": (
        {
            "lora_name": "adapter",
            "extra_keys": (("adapter", ("image", 10), "salt"), ("adapter", ("image", -6)), ("adapter",)),
        },
        {"lora": "adapter", "cache_salt": "salt", "extra_keys": [("image", 10, 20)]},
    ),
}


@pytest.mark.parametrize("told", CONTEXTS)
def test_contexts_are_kept_apart(index: Index, told: str) -> None:
    """Blocks of one context answer its queries, and no others; their hashes are all different."""
    index.apply(POD, frame(stored(0, 3, **CONTEXTS[told][0])), model=MODEL, sequence=0)
    for asked, (_, query) in CONTEXTS.items():
        found = index.match(TOKENS, model=MODEL, **query)
        # Extra keys are of the blocks they lie in: another adapter differs from the first block on, and so do all here.
        assert (POD in found) == (asked == told), asked
        assert index.match(TOKENS, model="qwen", **query) == {}
        if asked == told:
            assert found[POD] == Match(3, 48, {"GPU": 3}, certain=True, trust=Trust.EXACT)


def test_an_image_parts_prompts_where_it_begins(index: Index) -> None:
    """Blocks before an image are shared with prompts that have another there."""
    event = stored(0, 3, extra_keys=(None, (("image", 0),), (("image", -16),)))
    index.apply(POD, frame(event), model=MODEL, sequence=0)
    assert index.match(TOKENS, model=MODEL, extra_keys=[("image", 16, 32)])[POD].blocks == 3
    assert index.match(TOKENS, model=MODEL, extra_keys=[("image", 16, 16)])[POD].blocks == 2
    assert index.match(TOKENS, model=MODEL, extra_keys=[("photo", 16, 32)])[POD].blocks == 1
    assert index.match(TOKENS, model=MODEL)[POD].blocks == 1


def test_empty_is_none(index: Index) -> None:
    """An empty adapter, salt or list of extra keys is as none at all."""
    index.apply(POD, frame(stored(0, 3)), model=MODEL, sequence=0)
    found = index.match(TOKENS, model=MODEL, lora="", cache_salt="", extra_keys=[])
    assert found == index.match(TOKENS, model=MODEL)


@pytest.mark.parametrize(
    "extra_key",
    [("image", -1, 5), ("image", 1), ("image", "1", 5), (b"image", 1, 5), ("image", 2**64, 1), 5, ("x" * 5000, 0, 1)],
    ids=lambda extra_key: str(extra_key)[:20],
)
def test_wrong_extra_keys_are_named(index: Index, extra_key: Any) -> None:
    """An extra key that is none is shown, with what it should be."""
    with pytest.raises(ValueError, match=r"extra key .*give .identifier, first token, number of tokens"):
        index.match(TOKENS, model=MODEL, extra_keys=[extra_key])


@pytest.mark.parametrize("what", ["model", "lora", "cache_salt"])
def test_long_texts_are_refused(index: Index, what: str) -> None:
    """A text beyond the core's limit is refused by name."""
    arguments = {"model": MODEL, what: "é" * 2049}
    with pytest.raises(ValueError, match=f"{what} has 4098 bytes, more than 4096"):
        index.match(TOKENS, **arguments)  # type: ignore[arg-type]


def test_a_model_name_has_a_limit_too(index: Index) -> None:
    """The same holds for an engine's model."""
    with pytest.raises(ValueError, match="model has 5000 bytes"):
        index.register(POD, model="m" * 5000)
    assert index.engines() == []


def test_only_the_engines_asked_for_answer(index: Index) -> None:
    """A filter names engines, known or not; an empty one asks nobody."""
    engines = [Engine("pod", rank) for rank in range(5)]
    for rank, engine in enumerate(engines):
        index.apply(engine, frame(stored(0, rank + 1)), model=MODEL, sequence=0)
    whole = index.match(TOKENS, model=MODEL)
    hashes = index.block_hashes(TOKENS, model=MODEL, block_size=SIZE)
    for asked in ([], engines[1:2], engines[3:] + engines[:1], [POD], [*engines, POD, *engines]):
        wanted = {engine: whole[engine] for engine in engines if engine in asked}
        assert index.match(TOKENS, model=MODEL, engines=asked) == wanted
        assert index.match(TOKENS, model=MODEL, engines=iter(asked)) == wanted
        assert index.match_hashes(hashes, engines=asked) == wanted
        assert index.match_many([TOKENS, []], model=MODEL, engines=iter(asked)) == [wanted, {}]


# ---------------------------------------------------------------------------------------------- block hashes


def test_block_hashes_are_what_they_were() -> None:
    """Under a fixed seed the hashes are those of the formula, byte for byte."""
    tokens = range(48)
    with Index(seed=42) as index:
        assert list(index.block_hashes(tokens, model=MODEL, block_size=16)) == GOLDEN
        assert list(index.block_hashes([*tokens, 1], model=MODEL, block_size=16)) == GOLDEN
        assert list(index.block_hashes(tokens, model=MODEL, block_size=48)) == GOLDEN_OF_48
        context: dict[str, Any] = {"lora": "adapter", "cache_salt": "salt", "extra_keys": [("image", 10, 20)]}
        assert list(index.block_hashes(tokens, model=MODEL, block_size=16, **context)) == GOLDEN_IN_CONTEXT
    with Index(seed=43) as index:
        assert list(index.block_hashes(tokens, model=MODEL, block_size=16)) == GOLDEN_OF_43


def test_every_index_has_its_own_seed() -> None:
    """Without a seed two indexes hash differently, so that nobody can prepare prompts that collide."""
    with Index() as one, Index() as another:
        hashes = [index.block_hashes(TOKENS, model=MODEL, block_size=SIZE) for index in (one, another)]
    assert not set(hashes[0]) & set(hashes[1])


@pytest.mark.parametrize("block_size", [0, -1, 2**20 + 1])
def test_a_block_size_has_limits(index: Index, block_size: int) -> None:
    """Block sizes no engine has are refused."""
    with pytest.raises(ValueError, match=f"block_size is {block_size}"):
        index.block_hashes(TOKENS, model=MODEL, block_size=block_size)


@pytest.mark.parametrize("context", CONTEXTS)
def test_hashes_and_tokens_match_alike(index: Index, context: str) -> None:
    """Hashing first and matching the hashes gives the answer of matching the tokens."""
    told, query = CONTEXTS[context]
    index.apply(POD, frame(stored(0, 3, **told)), model=MODEL, sequence=0)
    index.apply(OTHER, frame(stored(0, 3, **told), Removed((3,))), model=MODEL, sequence=0)
    hashes = index.block_hashes(TOKENS, model=MODEL, block_size=SIZE, **query)
    assert (hashes.typecode, len(hashes)) == ("Q", 20)
    for given in (hashes, list(hashes), np.array(hashes), memoryview(hashes)):
        assert index.match_hashes(given) == index.match(TOKENS, model=MODEL, **query)
    assert index.match_hashes(hashes[:2])[POD].blocks == 2
    assert index.match_hashes([]) == {}


def test_many_prompts_are_matched_in_order(index: Index) -> None:
    """match_many answers each prompt as match does."""
    index.apply(POD, frame(stored(0, 5)), model=MODEL, sequence=0)
    prompts = [TOKENS, TOKENS[: 2 * SIZE], TOKENS[1:], []]
    assert index.match_many(prompts, model=MODEL) == [index.match(prompt, model=MODEL) for prompt in prompts]
    assert index.match_many([], model=MODEL) == []


# ---------------------------------------------------------------------------------------------- memory


def fill(index: Index, engine: Engine, prompts: int, blocks: int = 20) -> None:
    """Prompts that part at once, of so many blocks each; the hash of block b of prompt p is 1000 p + b."""
    for prompt in range(1, prompts + 1):
        event = Stored(
            tuple(prompt * 1000 + block for block in range(blocks)),
            tokens=tuple(prompt * 1000 + i for i in range(blocks * SIZE)),
            block_size=SIZE,
        )
        index.apply(engine, frame(event), model=MODEL, sequence=prompt - 1)


def test_a_ceiling_keeps_prefixes_closed() -> None:
    """Under a ceiling, whoever holds a block holds all before it; what was given up is counted, and trust says so."""
    ceiling = 300_000
    with Index(max_bytes=ceiling, seed=1) as index:
        for engine in (POD, OTHER):
            fill(index, engine, prompts=300)
            assert index.stats()["bytes"] <= ceiling
        records = [index.record(engine) for engine in (POD, OTHER)]
        for record in records:
            held = {int(engine_hash) for engine_hash in index.engine_hashes(record.engine)["GPU"][0]}
            assert all(engine_hash - 1 in held for engine_hash in held if engine_hash % 1000)
            assert len(held) == record.media["GPU"].entries
            for prompt in range(1, 301):
                tokens = [prompt * 1000 + i for i in range(20 * SIZE)]
                found = index.match(tokens, model=MODEL, engines=[record.engine])
                blocks = found[record.engine].blocks if found else 0
                assert blocks == sum(prompt * 1000 + block in held for block in range(20))
            if record.counters["evicted"]:
                assert record.trust is Trust.PARTIAL
        stats = index.stats()
        assert stats["bytes_max"] == ceiling
        assert stats["bytes_peak"] <= ceiling
        assert stats["evicted"] == sum(record.counters["evicted"] for record in records) > 1000


def test_memory_comes_back() -> None:
    """An index that has forgotten everything is about as small as a new one."""
    with Index(seed=1) as index:
        empty = index.stats()["bytes"]
        for engine in (POD, OTHER):
            fill(index, engine, prompts=100)
        full = index.stats()
        assert (full["engines"], full["models"], full["blocks"], full["entries"]) == (2, 1, 2000, 4000)
        assert full["bytes_per_entry"] == full["bytes"] / 4000
        for engine in (POD, OTHER):
            index.remove(engine)
        stats = index.stats()
        assert (stats["engines"], stats["blocks"], stats["entries"], stats["holder_sets"]) == (0, 0, 0, 0)
        assert stats["bytes_per_entry"] == 0
        assert stats["bytes"] < empty + 4096 < full["bytes"] / 10
        assert stats["bytes_peak"] >= full["bytes"]


# ---------------------------------------------------------------------------------------------- the end


def test_a_closed_index_says_so() -> None:
    """Every call after `close()` raises ClosedError; closing again is allowed."""
    index = Index(seed=1)
    index.close()
    index.close()
    calls: list[Callable[[], object]] = [
        lambda: index.apply(POD, b"", model=MODEL),
        lambda: index.register(POD, model=MODEL),
        lambda: index.match([], model=MODEL),
        lambda: index.match_many([[]], model=MODEL),
        lambda: index.match_hashes([]),
        lambda: index.block_hashes([], model=MODEL, block_size=16),
        lambda: index.clear(POD),
        lambda: index.restart(POD),
        lambda: index.doubt(POD, "why"),
        lambda: index.remove(POD),
        lambda: index.trust(POD),
        lambda: index.engines(),
        lambda: index.record(POD),
        lambda: index.engine_hashes(POD),
        lambda: index.stats(),
    ]
    for call in calls:
        with pytest.raises(ClosedError, match="the index is closed"):
            call()


def test_a_forgotten_index_warns() -> None:
    """An index that goes without `close()` says which it was; a closed one is silent."""

    def forget() -> None:
        Index(seed=1)
        gc.collect()

    with pytest.warns(ResourceWarning, match="<Index engines=0 .* was never closed"):
        forget()
    with Index(seed=1) as index:
        pass
    del index
    gc.collect()


def test_an_index_that_was_never_made_does_not_warn() -> None:
    """A refused argument leaves nothing to close."""
    with pytest.raises(ValueError, match="seed"):
        Index(seed=-1)
    gc.collect()


def test_closing_beside_matches() -> None:
    """Threads in the middle of a match get their answer; later calls get ClosedError, nothing else."""
    index = Index(seed=1)
    index.apply(POD, frame(stored(0, 20)), model=MODEL, sequence=0)
    tokens = array("I", TOKENS)
    ready = threading.Barrier(4)

    def ask() -> int:
        ready.wait()
        answers = 0
        while True:
            try:
                assert index.match(tokens, model=MODEL)[POD].blocks == 20
            except ClosedError:
                return answers
            answers += 1
            if answers == 20:
                asked.release()

    asked = threading.Semaphore(0)
    with ThreadPoolExecutor(3) as pool:
        counts = [pool.submit(ask) for _ in range(3)]
        ready.wait()
        for _ in range(3):
            assert asked.acquire(timeout=PATIENCE_S)
        index.close()
        assert all(count.result(timeout=PATIENCE_S) >= 20 for count in counts)


def test_writers_and_readers_together() -> None:
    """Engines come, fill and go in several threads; each sees its own blocks, and the steady one is always whole."""
    tokens = array("I", TOKENS)
    with Index(seed=1) as index:
        index.apply(POD, frame(stored(0, 20)), model=MODEL, sequence=0)

        def come_and_go(number: int) -> None:
            engine = Engine("guest", number)
            for _ in range(50):
                index.apply(engine, frame(stored(0, number + 1)), model=MODEL, sequence=0)
                found = index.match(tokens, model=MODEL)
                assert found[engine].blocks == number + 1
                assert found[POD].blocks == 20
                index.remove(engine)
                assert engine not in index.match(tokens, model=MODEL)

        with ThreadPoolExecutor(4) as pool:
            for done in [pool.submit(come_and_go, number) for number in range(4)]:
                done.result(timeout=PATIENCE_S)
        assert index.engines() == [POD]


@pytest.mark.parametrize(
    ("call", "error", "says"),
    [
        (lambda index: index.match([1], model=None), TypeError, "model is NoneType"),
        (lambda index: index.match([1], model="\ud800"), ValueError, "no UTF-8 form"),
        (lambda index: index.match([1], model="m", lora="x" * 5000), ValueError, "lora has 5000 bytes"),
        (lambda index: index.match([1], model="m", cache_salt="x" * 5000), ValueError, "more than 4096; it begins"),
        (lambda index: index.match([1], model="m", extra_keys=[("a", 2**64 - 1, 1)]), ValueError, "first token"),
        (lambda index: index.match([1], model="m", extra_keys=[("a", 0, 2**70)]), ValueError, "extra key"),
        (lambda index: index.match([1], model="m", engines=["a"]), TypeError, "engines holds 'a'"),
        (lambda index: index.apply(POD, "x", model="m"), TypeError, "payload is str"),
        (lambda index: index.register(POD, model="x" * 5000), ValueError, "model has"),
    ],
)
def test_what_cannot_be_is_refused_by_name(
    index: Index, call: Callable[[Index], object], error: type[Exception], says: str
) -> None:
    """A wrong argument is named, with the value met and what to give instead."""
    with pytest.raises(error, match=says):
        call(index)


def test_a_batch_is_timed_by_its_own_stamp(index: Index) -> None:
    """From the time it bears to when it was applied; one without a time, and one applied before, do not count."""
    begun = time.time()
    for number, stamp in enumerate((begun - 5.0, None, "x", -1.0, float("nan"), time.time() + 3600.0)):
        index.apply(POD, msgpack.packb([stamp, []]), model=MODEL, sequence=number)
        index.apply(POD, msgpack.packb([stamp, []]), model=MODEL, sequence=number)
    lag = index.record(POD).lag
    assert (lag.count, lag.ahead) == (2, 1)
    longest = 5.0 + time.time() - begun
    assert sum(lag.counts[bisect_left(LAG_BOUNDS_S, 5.0) : bisect_left(LAG_BOUNDS_S, longest) + 1]) == 1
    assert lag.counts[0] == 1
    assert 5.0 <= lag.seconds <= longest
    assert -3600.0 <= lag.last_s <= longest - 3605.0
    assert list(LAG_BOUNDS_S) == sorted(set(LAG_BOUNDS_S))
    assert len(lag.counts) == len(LAG_BOUNDS_S) + 1


def test_trust_says_since_when(index: Index) -> None:
    """From its last change: what leaves it as it is, a further reason included, moves nothing."""
    begun = time.time()
    index.apply(POD, frame(stored(0, 2)), model=MODEL, sequence=0)
    exact = index.record(POD).media["GPU"].since
    index.apply(POD, frame(stored(2, 4)), model=MODEL, sequence=1)
    assert index.record(POD).media["GPU"].since == exact
    index.doubt(POD, "first")
    stale = index.record(POD).media["GPU"].since
    index.doubt(POD, "second", "gpu")
    assert begun <= exact <= stale == index.record(POD).media["GPU"].since <= time.time()
    assert stale > exact
    assert index.record(POD).media["GPU"].reason == "second"


def test_a_match_says_what_each_medium_is_trusted(index: Index) -> None:
    """The worst over all is one value; the place of each block has its own."""
    index.apply(POD, frame(stored(0, 2), Stored((1, 2), medium="cpu")), model=MODEL, sequence=0)
    index.doubt(POD, "by hand", "cpu")
    match = index.match(TOKENS, model=MODEL)[POD]
    assert (match.trust, dict(match.trust_by_medium)) == (Trust.STALE, {"GPU": Trust.EXACT})
