"""
docs/design/index.md, rule by rule, held against the model and the C index alike.

The histories of tests/unit/index/test_differential.py only say that both do the same; here is what that must be.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from kvsync.errors import ConfigError
from kvsync.index import Index
from kvsync.testing.model import ModelIndex
from kvsync.testing.wire import Cleared, Event, Removed, Stored, Verbatim, encode_batch
from kvsync.types import Applied, Engine, Match, Trust

ENGINE = Engine("pod")
B = 4
A, BB, C, D = (1, 2, 3, 4), (5, 6, 7, 8), (9, 10, 11, 12), (13, 14, 15, 16)
UNREADABLE = Verbatim(["BlockStored"])


class Told:
    """An index and one engine that talks to it."""

    def __init__(self, index: Any) -> None:
        self.index = index
        self.number = 0

    def __call__(
        self, *events: Event, form: str = "vllm-0.33", number: int | None = -1, engine: Engine = ENGINE
    ) -> Applied:
        """Apply a batch, with the next number unless another (or none) is given."""
        if number == -1:
            number = self.number
        if number is not None:
            self.number = number + 1
        applied = self.index.apply(engine, encode_batch(events, form=form), model="m", sequence=number)
        assert isinstance(applied, Applied)
        return applied

    def match(self, *blocks: tuple[int, ...], **asked: Any) -> Match:
        """The engine's match of a prompt of these blocks."""
        tokens = [token for block in blocks for token in block]
        found = self.index.match(tokens, model="m", **asked)
        match = found[ENGINE] if ENGINE in found else Match(0, 0)
        assert isinstance(match, Match)
        return match

    def blocks(self, *blocks: tuple[int, ...], **asked: Any) -> int:
        """How many of these blocks the engine holds."""
        return self.match(*blocks, **asked).blocks

    def held(self, medium: str = "GPU", group: int = 0) -> dict[Any, int]:
        """Copies of what is held on a medium."""
        return dict(self.index.engine_hashes(ENGINE).get(medium, {}).get(group, {}))

    def trust(self, medium: str | None = None) -> Trust:
        """Trust in the engine, or in one medium of it."""
        trust = self.index.trust(ENGINE, medium)
        assert isinstance(trust, Trust)
        return trust

    def count(self, name: str) -> int:
        """One of the engine's counters."""
        return int(self.index.record(ENGINE).counters[name])


@pytest.fixture(params=[ModelIndex, Index])
def told(request: pytest.FixtureRequest) -> Iterator[Told]:
    """An engine that talks to the model, and to the C index."""
    with request.param() as index:
        yield Told(index)


def chain(*blocks: tuple[int, ...], first: int = 1, parent: Any = None, **more: Any) -> Stored:
    """A store of these blocks, whose hashes count up from `first`."""
    tokens = tuple(token for block in blocks for token in block)
    return Stored(tuple(range(first, first + len(blocks))), parent, tokens, len(blocks[0]), **more)


# ---------------------------------------------------------------------------- copies


def test_blocks_are_counted_by_copy(told: Told) -> None:
    """A block stored twice is gone when it was removed twice."""
    told(chain(A))
    told(chain(A))
    assert told.held() == {1: 2}
    told(Removed((1,)))
    assert (told.held(), told.blocks(A)) == ({1: 1}, 1)
    told(Removed((1,)))
    assert (told.held(), told.blocks(A), told.trust()) == ({}, 0, Trust.EXACT)


def test_a_whole_held_prefix_told_again_is_no_copy(told: Told) -> None:
    """Two or more held hashes from the start, in the only group, are a re-announcement."""
    told(chain(A, BB))
    assert told(chain(A, BB)) == Applied(reannounced=2)
    assert told.held() == {1: 1, 2: 1}


@pytest.mark.parametrize(
    "again",
    [
        chain(A),
        chain(A, BB, C),
        chain(BB, C, first=2, parent=1),
        chain(A, BB, medium="CPU"),
        Stored((1, 2)),
    ],
    ids=["one hash", "one not held", "with a parent", "not on GPU", "placeholder"],
)
def test_what_is_no_re_announcement_is_a_copy(told: Told, again: Stored) -> None:
    """Anything less than the rule is a store."""
    told(chain(A, BB), chain(C, first=4, parent=2))
    applied = told(again)
    assert (applied.reannounced, applied.stored) == (0, len(again.hashes))


def test_with_two_groups_nothing_is_a_re_announcement(told: Told) -> None:
    """Hybrid engines fill one hash in several groups: their second store is a copy."""
    told(chain(A, BB, group=0), chain(A, BB, group=1))
    assert told(chain(A, BB, group=0)) == Applied(stored=2)


def test_without_exact_trust_a_prefix_told_again_keeps_the_lower_bound(told: Told) -> None:
    """On a partial medium what is held gets no copy, though not all of it was."""
    told(chain(A, BB), number=5)
    assert told(chain(A, BB, C)) == Applied(stored=1, reannounced=2)
    assert told.held() == {1: 1, 2: 1, 3: 1}


def test_without_exact_trust_also_one_block_told_again_is_no_copy(told: Told) -> None:
    """Whether it was a copy nobody can tell; no more copies are counted than there surely are."""
    told(chain(A, BB), number=5)
    assert told(chain(A)) == Applied(reannounced=1)
    assert told.held() == {1: 1, 2: 1}


def test_hashes_of_every_kind_are_themselves(told: Told) -> None:
    """Integers by their 64 bits, bytes by all of them; the two are never equal."""
    told(Stored((b"\x01", b"\x00\x01", 1, (1 << 64) - 1), None, A + BB + C + D, B))
    assert told.held() == {b"\x01": 1, b"\x00\x01": 1, 1: 1, (1 << 64) - 1: 1}
    told(Removed(((1 << 64) - 1,)), form="vllm-0.9.1")
    assert told.held() == {b"\x01": 1, b"\x00\x01": 1, 1: 1}


# ---------------------------------------------------------------------------- ties


def test_a_match_ends_at_the_first_hole(told: Told) -> None:
    """A block whose predecessor is gone is held and not reachable, and is again when that is stored anew."""
    told(chain(A, BB, C))
    told(Removed((2,)))
    assert (told.blocks(A, BB, C), told.held()) == (1, {1: 1, 3: 1})
    told(chain(BB, first=2, parent=1))
    assert told.blocks(A, BB, C) == 3


def test_one_block_may_have_several_hashes(told: Told) -> None:
    """It is held while one of them is."""
    told(chain(A), chain(A, first=7))
    told(Removed((1,)))
    assert told.blocks(A) == 1
    told(Removed((7,)))
    assert told.blocks(A) == 0


def test_a_hash_used_for_another_block_means_that_now(told: Told) -> None:
    """The later word wins, and is counted."""
    told(chain(A), chain(D, first=1))
    assert (told.blocks(A), told.blocks(D), told.count("retied")) == (0, 1, 1)


def test_a_child_chains_on_a_parent_removed_lately(told: Told) -> None:
    """What a removed hash was is remembered for a while."""
    told(chain(A), Removed((1,)), chain(BB, first=2, parent=1))
    told(chain(A))
    assert told.blocks(A, BB) == 2


def test_ghosts_end_with_their_frame(told: Told) -> None:
    """What a removed hash was is known for the rest of its frame, and no longer."""
    told(chain(A), chain(BB, first=2))
    told(Removed((1,)), Removed((2,)), Stored((2,), medium="CPU"))
    told(Stored((1,), medium="CPU"))
    assert (told.blocks(BB), told.blocks(A)) == (1, 0)


def test_a_placeholder_takes_the_block_of_its_hash(told: Told) -> None:
    """A note of where a hash lies joins what that hash is, held, gone or yet to come."""
    told(chain(A), Stored((1,), medium="CPU"), Removed((1,)))
    assert told.match(A).by_medium == {"CPU": 1}
    told(Removed((1,), "CPU"), Stored((1,), medium="STORAGE"))
    assert told.match(A).by_medium == {"STORAGE": 1}
    told(Stored((9,), medium="CPU"))
    assert told.blocks(D) == 0
    told(chain(D, first=9), Removed((9,)))
    assert told.match(D).by_medium == {"CPU": 1}


def test_a_masked_store_ties_nothing(told: Told) -> None:
    """Where tokens and hashes do not go together the hashes are held, and matched only if known otherwise."""
    told(Stored((1,), None, A + BB, B))
    assert (told.held(), told.blocks(A), told.count("masked")) == ({1: 1}, 0, 1)
    told(chain(A))
    assert (told.held(), told.blocks(A)) == ({1: 2}, 1)


def test_extra_keys_of_another_number_mask_a_store(told: Told) -> None:
    """There is one entry of extra keys for each hash, or the event ties nothing."""
    told(Stored((1, 2), None, A + BB, B, extra_keys=(None,)))
    assert (told.blocks(A, BB), told.count("masked")) == (0, 2)


def test_a_short_block_is_held_and_never_matches(told: Told) -> None:
    """A last page that is not full is listed, and no query can reach it or past it."""
    told(chain(A), Stored((2,), 1, (5, 6), 2), chain(BB, first=3, parent=2))
    assert (told.held(), told.blocks(A, BB), told.index.record(ENGINE).block_size) == ({1: 1, 2: 1, 3: 1}, 1, 4)


def test_an_event_without_hashes_is_no_event(told: Told) -> None:
    """Tokens without a hash teach nothing, not even a medium."""
    assert told(Stored((), None, A, B, medium="CPU")) == Applied()
    assert told.index.record(ENGINE).block_size is None
    assert set(told.index.record(ENGINE).media) == {"GPU"}


# ---------------------------------------------------------------------------- orphans


def test_orphans_join_when_their_parent_comes(told: Told) -> None:
    """Blocks after an unknown one match only once that is known, however long their line is."""
    told(chain(C, D, first=3, parent=2), number=7)
    told(chain(BB, first=2, parent=1))
    assert (told.blocks(BB), told.blocks(C), told.index.record(ENGINE).orphans) == (0, 0, 3)
    told(chain(A))
    assert (told.blocks(A, BB, C, D), told.index.record(ENGINE).orphans) == (4, 0)


def test_a_removed_orphan_leaves_its_own_orphans_waiting(told: Told) -> None:
    """What followed it waits for its hash to be stored again."""
    told(chain(BB, C, first=2, parent=1), number=7)
    told(Removed((2,)), chain(A))
    assert (told.blocks(A, BB, C), told.index.record(ENGINE).orphans) == (1, 1)
    told(chain(BB, first=2, parent=1))
    assert told.blocks(A, BB, C) == 3


def test_an_orphan_that_is_known_elsewhere_is_none(told: Told) -> None:
    """A hash tied on another medium is what it is there, and so is what follows it."""
    told(chain(A, BB, medium="CPU"), number=7)
    told(chain(BB, C, first=2, parent=99))
    told(chain(A))
    assert told.match(A, BB, C).by_medium == {"GPU": 3}


def test_at_most_16384_orphans_wait(told: Told) -> None:
    """Beyond that an orphan is held and stays untied for good."""
    told(*(Stored((i,), 20000, (i,), 1) for i in range(1, 16386)), form="vllm-0.9.1", number=7)
    record = told.index.record(ENGINE)
    assert (record.orphans, told.count("orphans_dropped"), len(told.held())) == (16384, 1, 16385)
    told(Stored((20000,), None, (7,), 1), form="vllm-0.9.1")
    assert told.index.record(ENGINE).orphans == 0
    assert [told.blocks((7,), (i,)) for i in (1, 16384, 16385)] == [2, 2, 1]


def test_a_missing_parent_on_an_exact_gpu_is_evidence_of_loss(told: Told) -> None:
    """On a complete stream every parent was told: if not, what was held is doubted, the new blocks are not."""
    told(chain(A))
    told(chain(C, first=3, parent=2))
    assert (told.trust(), told.count("parent_missing")) == (Trust.STALE, 1)
    assert told.index.record(ENGINE).media["GPU"].doubtful == 1
    told(Removed((1,)))
    assert told.trust() is Trust.PARTIAL


def test_a_parent_that_is_held_but_untied_is_no_loss(told: Told) -> None:
    """A block after a masked one waits, and nothing is doubted."""
    told(Stored((1,), None, A + BB, B), chain(BB, first=2, parent=1))
    assert (told.trust(), told.index.record(ENGINE).orphans) == (Trust.EXACT, 1)


# ---------------------------------------------------------------------------- trust


def test_a_stream_heard_from_the_start_is_exact(told: Told) -> None:
    """Number 0 first: exact. Any other, or none: partial. Nothing at all: unknown."""
    assert told.trust() is Trust.UNKNOWN
    told(chain(A))
    assert told.trust() is Trust.EXACT
    for pod, number in (("later", 3), ("numberless", None)):
        told(chain(A), number=number, engine=Engine(pod))
        assert told.index.trust(Engine(pod)) is Trust.PARTIAL


def test_a_hole_makes_everything_doubtful_until_told_again(told: Told) -> None:
    """After a hole a store clears its own doubt with one copy, a removal takes a doubtful entry whole."""
    told(chain(A), chain(A), chain(BB, first=2, parent=1))
    told(number=3)
    assert (told.trust(), told.match(A, BB).trust, told.blocks(A, BB)) == (Trust.STALE, Trust.STALE, 2)
    assert told(chain(A)) == Applied(reannounced=1)
    assert told.held() == {1: 1, 2: 1}
    assert told(Removed((2,))) == Applied(removed=1)
    assert (told.held(), told.trust(), told.count("gaps")) == ({1: 1}, Trust.PARTIAL, 1)


def test_a_hole_over_nothing_is_partial_at_once(told: Told) -> None:
    """Where nothing was held nothing can be untrue."""
    told(number=0)
    told(number=5)
    assert told.trust() is Trust.PARTIAL


def test_a_number_heard_before_changes_nothing(told: Told) -> None:
    """A frame up to the last number is a duplicate."""
    told(chain(A), number=0)
    assert told(chain(D, first=9), number=0) == Applied()
    assert (told.held(), told.count("duplicate"), told.index.record(ENGINE).sequence) == ({1: 1}, 1, 0)


def test_an_unreadable_event_doubts_what_was_before_it(told: Told) -> None:
    """The events before are doubted, those after are not."""
    assert told(chain(A), UNREADABLE, chain(D, first=9)) == Applied(stored=2, skipped=1)
    record = told.index.record(ENGINE)
    assert (record.trust, record.media["GPU"].doubtful, told.count("skipped_type")) == (Trust.STALE, 1, 1)


def test_removing_what_is_not_held_is_evidence_of_loss(told: Told) -> None:
    """On an exact medium a removal of nothing means that a store was lost."""
    told(chain(A))
    assert told(Removed((5,))) == Applied()
    assert (told.trust(), told.count("removed_unknown")) == (Trust.STALE, 1)


def test_a_medium_named_late_is_as_complete_as_the_record(told: Told) -> None:
    """A new medium is exact on a stream without holes, and partial on any other."""
    told(chain(A), Stored((1,), medium="CPU"))
    assert told.trust("cpu") is Trust.EXACT
    told(number=9)
    told(Stored((1,), medium="STORAGE"))
    assert (told.trust("STORAGE"), told.trust("CPU"), told.trust("never")) == (
        Trust.PARTIAL,
        Trust.STALE,
        Trust.UNKNOWN,
    )


def test_a_cleared_pool_empties_the_gpu_and_doubts_the_rest(told: Told) -> None:
    """After a clear the GPU is exact, whatever it was, and lower media may be anything."""
    told(chain(A, BB), Stored((1,), medium="CPU"), UNREADABLE)
    assert told(Cleared()) == Applied(cleared=2)
    assert (told.trust("GPU"), told.trust("CPU"), told.held(), told.held("CPU")) == (
        Trust.EXACT,
        Trust.STALE,
        {},
        {1: 1},
    )
    told(chain(BB, first=2, parent=1))
    assert told.blocks(A, BB) == 2


def test_clear_says_that_nothing_is_held(told: Told) -> None:
    """After `clear` everything is gone, exact, and any number continues."""
    told(chain(A), Stored((1,), medium="CPU"), number=9)
    told.index.clear(ENGINE)
    assert (told.index.engine_hashes(ENGINE), told.trust()) == ({}, Trust.EXACT)
    told(chain(A), number=4)
    assert (told.trust(), told.held()) == (Trust.EXACT, {1: 1})


def test_clear_of_one_medium_leaves_the_others(told: Told) -> None:
    """Only what lay there is gone."""
    told(chain(A), Stored((1,), medium="CPU"), number=9)
    told.index.clear(ENGINE, "cpu")
    assert (told.trust("CPU"), told.trust("GPU"), told.held(), told.held("CPU")) == (
        Trust.EXACT,
        Trust.PARTIAL,
        {1: 1},
        {},
    )


def test_restart_begins_a_life(told: Told) -> None:
    """Everything learned is gone; partial until number 0 comes, then exact."""
    told(chain(A), Stored((1,), medium="CPU"))
    told.index.restart(ENGINE)
    record = told.index.record(ENGINE)
    assert (record.lives, record.trust, record.block_size, record.dialect) == (2, Trust.PARTIAL, None, None)
    assert (record.sequence, set(record.media)) == (None, {"GPU"})
    told(chain(BB, first=2, parent=1), number=0)
    assert (told.blocks(A, BB), told.trust()) == (0, Trust.PARTIAL)


def test_doubt_is_what_somebody_else_knows(told: Told) -> None:
    """`doubt` makes what is held doubtful, everywhere or in one place."""
    told(chain(A), Stored((1,), medium="CPU"))
    told.index.doubt(ENGINE, "slept", "CPU")
    assert (told.trust("CPU"), told.trust("GPU")) == (Trust.STALE, Trust.EXACT)
    told.index.doubt(ENGINE, "slept")
    assert told.trust("GPU") is Trust.STALE


def test_doubt_again_and_again_is_still_doubt(told: Told) -> None:
    """However often a record was doubted, an entry told since the last time is sure and the others are not."""
    told(chain(A, BB))
    for _ in range(300):
        told.index.doubt(ENGINE, "again")
        told(chain(A))
        assert told.index.record(ENGINE).media["GPU"].doubtful == 1
    told(Removed((2,)))
    assert (told.trust(), told.held()) == (Trust.PARTIAL, {1: 1})


def test_a_removed_engine_was_never_there(told: Told) -> None:
    """Nothing is left of it, and it may come back as another."""
    told(chain(A))
    told.index.remove(ENGINE)
    assert (told.trust(), told.index.engines(), told.index.engine_hashes(ENGINE), told.blocks(A)) == (
        Trust.UNKNOWN,
        [],
        {},
        0,
    )
    told.index.apply(ENGINE, encode_batch([chain(A)]), model="other", sequence=0)
    assert told.index.record(ENGINE).model == "other"


def test_an_engine_serves_one_model(told: Told) -> None:
    """A frame for another model is a mistake of ours, and said so."""
    told(chain(A))
    with pytest.raises(ConfigError, match=r"remove"):
        told.index.apply(ENGINE, b"", model="other")


def test_telling_about_a_stranger_does_nothing(told: Told) -> None:
    """Engines and media never heard of may be cleared, doubted, restarted and removed."""
    for engine in (ENGINE, Engine("stranger")):
        told.index.clear(engine, "never")
        told.index.doubt(engine, "why", "never")
        if engine != ENGINE:
            told.index.clear(engine)
            told.index.doubt(engine, "why")
            told.index.restart(engine)
            told.index.remove(engine)
        told(number=0)
    assert told.index.engines() == [ENGINE]


def test_a_ninth_medium_and_a_33rd_kind_are_refused(told: Told) -> None:
    """Beyond the limits an event is skipped whole; what was there goes on."""
    for medium in range(7):
        assert told(Stored((1,), medium=f"m{medium}")) == Applied(stored=1)
    assert told(Stored((1,), medium="m7")) == Applied(skipped=1)
    for group in range(25):
        assert told(Stored((1,), group=group)) == Applied(stored=1)
    assert told(Stored((1,), group=25)) == Applied(skipped=1)
    assert told(Removed((1,), group=25)) == Applied(skipped=1)
    assert (told(Stored((1,), group=24)), told.count("skipped_limit")) == (Applied(stored=1), 3)


# ---------------------------------------------------------------------------- contexts


def test_adapters_are_kept_apart_by_name(told: Told) -> None:
    """A block of one adapter is no block of another, or of none; a number is no name."""
    told(chain(A, lora_name="sql", lora_id=1), chain(BB, first=2, lora_id=5))
    assert [told.blocks(A, lora=lora) for lora in ("sql", "chat", None, "1")] == [1, 0, 0, 0]
    assert [told.blocks(BB, lora=lora) for lora in (None, "5", "id:5")] == [0, 0, 0]


def test_an_empty_name_or_salt_is_none(told: Told) -> None:
    """A query with an empty adapter or salt is one without."""
    told(chain(A))
    assert told.blocks(A, lora="", cache_salt="") == 1


def test_salts_and_images_are_part_of_a_block(told: Told) -> None:
    """A block is found with the salt and the images it was made with, in their places."""
    extra_keys = ((("cat", 2), "s"), (("cat", -2), ("dog", 3)), None)
    told(Stored((1, 2, 3), None, A + BB + C, B, extra_keys=extra_keys))
    images = [("cat", 2, 4), ("dog", 7, 1)]
    assert told.match(A, BB, C, cache_salt="s", extra_keys=images) == Match(3, 12, {"GPU": 3}, True, Trust.EXACT)
    assert told.blocks(A, BB, C, cache_salt="s", extra_keys=images[::-1]) == 3
    assert told.blocks(A, BB, C, cache_salt="s", extra_keys=[("cat", 2, 4)]) == 1
    assert told.blocks(A, BB, C, cache_salt="s", extra_keys=[("cat", 1, 5)]) == 0
    assert told.blocks(A, BB, C, extra_keys=images) == 0
    assert told.blocks(A, BB, C, cache_salt="t", extra_keys=images) == 0


def test_untagged_extras_match_without_their_places(told: Told) -> None:
    """Before 0.20 an image is a bare text: found, and not certain."""
    told(Stored((1, 2), None, A + BB, B, extra_keys=((("cat", 2), "s"), (("cat", -2),))), form="vllm-0.17")
    match = told.match(A, BB, cache_salt="s", extra_keys=[("cat", 2, 4)])
    assert (match.blocks, match.certain) == (2, False)
    told(chain(D, first=9), form="vllm-0.17")
    assert told.match(D).certain


def test_without_extras_on_the_wire_nothing_is_certain(told: Told) -> None:
    """Before 0.17 salts and images are not told: queries are asked without, and the answer says so."""
    told(chain(A), form="vllm-0.14")
    match = told.match(A, cache_salt="s", extra_keys=[("cat", 0, 2)])
    assert (match.blocks, match.certain) == (1, False)
    assert told.match(A).certain is False


def test_a_salt_of_its_own_field_belongs_to_the_first_block(told: Told) -> None:
    """SGLang names the salt once an event; it counts for the first block of a prompt."""
    told(chain(A, BB, cache_salt="s"), chain(C, first=3, parent=2, cache_salt="s"), form="sglang-0.5.20")
    assert [told.blocks(A, BB, C, cache_salt=salt) for salt in ("s", None, "t")] == [3, 0, 0]


def test_pairs_match_by_their_first_tokens(told: Told) -> None:
    """EAGLE's pairs are the prompt's tokens."""
    told(Stored((1, 2), None, A + BB, B, pairs=True), form="sglang-0.5.10")
    assert told.blocks(A, BB) == 2


def test_an_unheard_of_extra_equals_nothing(told: Told) -> None:
    """A block that depends on something we cannot name is never taken for one that we can."""
    told(Stored((1,), None, A, B, extra_keys=((7,),)))
    assert (told.held(), told.blocks(A), told.blocks(A, cache_salt="\x07")) == ({1: 1}, 0, 0)
    told(Stored((2,), None, BB, B, extra_keys=((b"s",),)))
    assert told.blocks(BB, cache_salt="s") == 0


# ---------------------------------------------------------------------------- groups and media


def test_a_window_needs_only_the_last_blocks(told: Told) -> None:
    """A sliding window of 9 tokens needs the last two blocks of four; full attention needs all."""
    told(chain(A, BB, C, D, group=0, spec_kind="full_attention"))
    told(chain(C, D, first=3, parent=2, group=1, spec_kind="sliding_window", window=9))
    assert (told.blocks(A, BB, C, D), told.blocks(A, BB, C)) == (4, 0)
    told(Removed((4,), group=0))
    assert told.blocks(A, BB, C, D) == 0
    told(chain(BB, first=2, parent=1, group=1))
    assert told.blocks(A, BB, C, D) == 3


def test_a_state_needs_only_the_last_block(told: Told) -> None:
    """A state-space group serves a prefix whose last block it holds."""
    told(chain(A, BB, C, group=0), chain(BB, first=2, parent=1, group=1, spec_kind="mamba"))
    assert told.blocks(A, BB, C) == 2


@pytest.mark.parametrize("kind", ["chunked_local_attention", "something_new", None])
def test_unknown_kinds_are_full_attention(told: Told, kind: str | None) -> None:
    """What is not known to need less needs everything."""
    told(chain(A, BB, group=0), chain(BB, first=2, parent=1, group=1, spec_kind=kind, window=4))
    assert told.blocks(A, BB) == 0


def test_a_group_that_only_noted_places_does_not_count(told: Told) -> None:
    """A group without a store with tokens says nothing about what it would need."""
    told(chain(A, BB, group=0), Stored((7,), group=1))
    assert told.blocks(A, BB) == 2


def test_facts_of_a_group_add_up(told: Told) -> None:
    """A kind told without its window counts as full attention until the window is told, then as what it is."""
    told(chain(A, BB, group=0), chain(BB, first=2, parent=1, group=1, spec_kind="sliding_window"))
    assert told.blocks(A, BB) == 0
    told(chain(BB, first=2, parent=1, group=1, window=5))
    assert told.blocks(A, BB) == 2


def test_groups_of_different_sizes_match_where_all_do(told: Told) -> None:
    """Matched tokens are a multiple of every size; blocks are those of full attention."""
    told(chain(A, BB, C, group=0), Stored((21,), None, A + BB, 8, group=1))
    assert told.match(A, BB, C) == Match(2, 8, {"GPU": 2}, True, Trust.EXACT)


def test_each_block_counts_under_its_fastest_medium(told: Told) -> None:
    """GPU, then host memory, then what is not known, then disks and networks."""
    told(chain(A, BB, C, D))
    told(Stored((1, 2, 3, 4), medium="STORAGE"), Stored((2, 3), medium="weird"), Stored((3,), medium="CPU"))
    told(Removed((2, 3, 4)))
    assert told.match(A, BB, C, D) == Match(4, 16, {"GPU": 1, "WEIRD": 1, "CPU": 1, "STORAGE": 1}, True, Trust.EXACT)


@pytest.mark.parametrize(
    ("media", "fastest"),
    [
        (("STORAGE", "EXTERNAL"), "EXTERNAL"),
        (("CPU_PINNED", "CPU"), "CPU"),
        (("zeta", "Alpha"), "ALPHA"),
        (("DISK", "zeta"), "ZETA"),
        (("OBJ", "FS", "SHARED_STORAGE"), "FS"),
    ],
)
def test_equally_fast_media_go_by_name(told: Told, media: tuple[str, ...], fastest: str) -> None:
    """Of media of one speed the first by name counts."""
    told(chain(A), *(Stored((1,), medium=medium) for medium in media), Removed((1,)))
    assert told.match(A).by_medium == {fastest: 1}


def test_only_engines_asked_for_answer(told: Told) -> None:
    """`engines` narrows the question, and strangers in it do not matter."""
    for pod in ("one", "two"):
        told(chain(A), number=0, engine=Engine(pod))
    asked = [Engine("two"), Engine("stranger")]
    assert set(told.index.match(list(A), model="m", engines=asked)) == {Engine("two")}
    assert [set(each) for each in told.index.match_many([list(A), list(BB)], model="m", engines=asked)] == [
        {Engine("two")},
        set(),
    ]
    assert set(told.index.match(list(A), model="other")) == set()
