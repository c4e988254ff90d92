"""The prefix cache: what is reused, what is announced, and what a request gets."""

from __future__ import annotations

from array import array

import pytest
from tests.unit.engine.load import make_request

from kvsync.engine.cache import PrefixCache
from kvsync.engine.events import BlockRemoved, BlockStored, CacheEvent, GroupSpec, Lora
from kvsync.engine.hashing import BlockHasher
from kvsync.engine.pool import BlockPool
from kvsync.engine.request import Image, Request

SIZE = 4
FULL = GroupSpec()
WINDOW = GroupSpec(window=9)  # needs two whole blocks of 4 behind the next token


def tokens(count: int, first: int = 0) -> array[int]:
    """Give so many consecutive token ids."""
    return array("I", range(first, first + count))


def make_cache(blocks: int = 32, groups: tuple[GroupSpec, ...] = (FULL,)) -> PrefixCache:
    """Make an empty cache of blocks of 4 tokens."""
    return PrefixCache(BlockPool(blocks), block_size=SIZE, hasher=BlockHasher(1), groups=groups)


def computed(cache: PrefixCache, request: Request) -> list[CacheEvent]:
    """Let a request have all its tokens, and give what was announced."""
    hit = cache.look_up(request)
    assert cache.allocate(request, len(request.tokens) - hit.tokens, hit)
    request.computed = len(request.tokens)
    return cache.pool.take_events()


def only_store(events: list[CacheEvent]) -> BlockStored:
    """Give the one store among the events."""
    (store,) = [event for event in events if isinstance(event, BlockStored)]
    return store


def test_full_blocks_are_announced_in_one_chain_and_the_rest_is_not() -> None:
    """Ten tokens are two blocks from the root; the two tokens over are nobody's block yet."""
    store = only_store(computed(make_cache(), make_request(tokens(10))))
    assert (len(store.hashes), store.parent, store.tokens) == (2, None, tokens(8))


@pytest.mark.parametrize(("length", "reused"), [(9, 8), (8, 4), (7, 4), (5, 4), (4, 0)])
def test_the_last_token_is_always_computed(length: int, reused: int) -> None:
    """Of a prompt of T tokens that is held whole, (T - 1) // size blocks are reused."""
    cache = make_cache()
    computed(cache, make_request(tokens(12)))
    assert cache.look_up(make_request(tokens(length))).tokens == reused


def test_a_whole_prompt_asked_again_keeps_a_second_copy_of_its_last_block() -> None:
    """What is computed again is stored again, under the same hash, below the block that was reused."""
    cache = make_cache()
    first = only_store(computed(cache, make_request(tokens(8))))
    again = only_store(computed(cache, make_request(tokens(8))))
    assert (again.hashes, again.parent) == (first.hashes[1:], first.hashes[0])
    assert cache.pool.held()[0][first.hashes[1]] == 2


def test_blocks_that_fill_later_chain_on_the_ones_before() -> None:
    """A block filled by the answer names the prompt's last block as its parent."""
    cache = make_cache()
    request = make_request(tokens(7))
    prompt = only_store(computed(cache, request))
    request.tokens.append(99)
    assert cache.allocate(request, 1)
    answer = only_store(cache.pool.take_events())
    assert (answer.parent, list(answer.tokens)) == (prompt.hashes[-1], [4, 5, 6, 99])


def test_evictions_come_before_the_store_they_make_room_for() -> None:
    """The blocks lost to a request are removed, tail first, before its own are announced."""
    cache = make_cache(blocks=4)
    old = make_request(tokens(12))
    lost = only_store(computed(cache, old)).hashes
    cache.release(old)
    events = computed(cache, make_request(tokens(8, first=100)))
    assert events[:2] == [BlockRemoved((lost[2],), 0), BlockRemoved((lost[1],), 0)]
    assert isinstance(events[2], BlockStored)


def test_a_request_that_does_not_fit_takes_nothing() -> None:
    """Too few free blocks: no block moves and nothing is announced."""
    cache = make_cache(blocks=4)
    computed(cache, make_request(tokens(8)))
    late = make_request(tokens(12, first=50))
    assert not cache.allocate(late, 12, cache.look_up(late))
    assert (cache.pool.free_count, late.blocks, cache.pool.take_events()) == (1, [], [])


def test_blocks_reused_from_the_free_queue_are_not_counted_as_room() -> None:
    """A free block that is a hit cannot be the room for the blocks behind it as well."""
    cache = make_cache(blocks=4)
    first = make_request(tokens(8))
    computed(cache, first)
    cache.release(first)
    longer = make_request(tokens(8) + tokens(8, first=70))
    hit = cache.look_up(longer)
    assert hit.tokens == 8
    assert not cache.allocate(longer, 8, hit)
    assert cache.pool.free_count == 3


@pytest.mark.parametrize(
    "other",
    [
        {"lora": Lora("adapter", 1)},
        {"cache_salt": "tenant"},
        {"images": (Image("cat", 0, 3),)},
    ],
)
def test_adapter_salt_and_image_keep_equal_tokens_apart(other: dict[str, object]) -> None:
    """The same tokens in another context are other blocks, and equal contexts meet."""
    cache = make_cache()
    computed(cache, make_request(tokens(9)))
    assert cache.look_up(make_request(tokens(9), **other)).tokens == 0  # type: ignore[arg-type]
    computed(cache, make_request(tokens(9), **other))  # type: ignore[arg-type]
    assert cache.look_up(make_request(tokens(9), **other)).tokens == 8  # type: ignore[arg-type]


def test_extra_keys_are_adapter_images_salt_each_in_its_blocks() -> None:
    """The salt marks the first block, an image every block it touches, at its offset from the block's start."""
    request = make_request(
        tokens(16), lora=Lora("adapter", 1), cache_salt="tenant", images=(Image("cat", 2, 4), Image("dog", 6, 1))
    )
    store = only_store(computed(make_cache(), request))
    assert store.extras == (
        ("adapter", ("cat", 2), "tenant"),
        ("adapter", ("cat", -2), ("dog", 2)),
        ("adapter",),
        ("adapter",),
    )


def test_full_reports_announce_the_reused_prefix_again_without_a_copy() -> None:
    """The prefix comes again from the root, before the request's own store; the pool holds as much as before."""
    cache = make_cache()
    computed(cache, make_request(tokens(12)))
    again, fresh = computed(cache, make_request(tokens(12), report_full=True))
    assert isinstance(again, BlockStored)
    assert isinstance(fresh, BlockStored)
    assert (again.parent, again.tokens, fresh.parent) == (None, tokens(8), again.hashes[-1])
    assert cache.pool.held()[0][again.hashes[0]] == 1


def test_a_prefix_of_one_block_is_not_reported_again() -> None:
    """Nobody could tell the announcement from a new copy, so there is none."""
    cache = make_cache()
    computed(cache, make_request(tokens(8)))
    assert len(computed(cache, make_request(tokens(8), report_full=True))) == 1


def test_every_group_stores_its_own_blocks_under_the_same_hashes() -> None:
    """A hybrid model announces a range once for each group."""
    first, second = computed(make_cache(groups=(FULL, WINDOW)), make_request(tokens(9)))
    assert isinstance(first, BlockStored)
    assert isinstance(second, BlockStored)
    assert (first.group, second.group, first.hashes) == (0, 1, second.hashes)
    assert (first.spec.kind, second.spec.kind) == ("full_attention", "sliding_window")


def test_a_window_gives_back_what_slid_out() -> None:
    """Blocks wholly behind the window are released while the request runs; full attention keeps its own."""
    cache = make_cache(groups=(FULL, WINDOW))
    request = make_request(tokens(20))
    computed(cache, request)
    request.tokens.append(99)
    assert cache.allocate(request, 1)
    null = cache.pool.null_block
    assert [block is null for block in request.blocks[1]] == [True, True, True, False, False, False]
    assert null not in request.blocks[0]


def test_a_window_needs_only_its_last_blocks_for_a_hit() -> None:
    """With the window's early blocks evicted and the full group whole, the long prefix is still reused."""
    cache = make_cache(blocks=12, groups=(FULL, WINDOW))
    request = make_request(tokens(17))
    hashes = only_first(computed(cache, request)).hashes
    cache.release(request)
    evict(cache, 1, hashes[0])
    hit = cache.look_up(make_request(tokens(17)))
    assert hit.tokens == 16
    assert hit.blocks[1][:2] == (cache.pool.null_block,) * 2


def test_a_window_that_lost_its_end_shortens_the_hit_of_all_groups() -> None:
    """The reusable prefix is where every group would hit."""
    cache = make_cache(blocks=12, groups=(FULL, WINDOW))
    request = make_request(tokens(17))
    hashes = only_first(computed(cache, request)).hashes
    cache.release(request)
    evict(cache, 1, hashes[3])
    hit = cache.look_up(make_request(tokens(17)))
    assert hit.tokens == 12
    assert [len(blocks) for blocks in hit.blocks] == [3, 3]


def only_first(events: list[CacheEvent]) -> BlockStored:
    """Give the first event, a store."""
    assert isinstance(events[0], BlockStored)
    return events[0]


def evict(cache: PrefixCache, group: int, digest: bytes) -> None:
    """Give one free block's content away: everything before it in the queue is saved from eviction meanwhile."""
    pool = cache.pool
    target = pool.find(group, digest)
    assert target is not None
    others = []
    while True:
        free = next(iter(pool._free.values()))
        if free is target:
            break
        pool.touch([free])
        others.append(free)
    pool.release(pool.allocate(1))
    pool.release(others)
