"""The block pool: who gets which block, and what is lost for it."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsync.engine.events import AllBlocksCleared, BlockRemoved
from kvsync.engine.pool import Block, BlockPool

A, B, C = b"a", b"b", b"c"


def numbers(blocks: list[Block]) -> list[int]:
    """Give the blocks' numbers."""
    return [block.number for block in blocks]


def stored(pool: BlockPool, *digests: bytes) -> list[Block]:
    """Fill blocks with this content and keep them referenced."""
    blocks = pool.allocate(len(digests))
    pool.store(blocks, 0, digests)
    return blocks


def test_block_0_stands_for_none_and_the_rest_come_in_order() -> None:
    """A fresh pool of n blocks gives 1, 2, ... n - 1."""
    pool = BlockPool(5)
    assert pool.null_block.number == 0
    assert numbers(pool.allocate(4)) == [1, 2, 3, 4]
    assert pool.free_count == 0


def test_released_blocks_queue_up_behind_the_untouched() -> None:
    """A block that was just given up is the last to be given away again."""
    pool = BlockPool(5)
    pool.release(reversed(stored(pool, A, B)))
    assert numbers(pool.allocate(4)) == [3, 4, 2, 1]


@pytest.mark.parametrize(("empty_first", "order"), [(True, [3, 2, 4, 1]), (False, [4, 3, 2, 1])])
def test_blocks_without_content_are_given_away_first_since_a_release(empty_first: bool, order: list[int]) -> None:
    """They overtake even the untouched, in the order of their release; in older releases they wait their turn."""
    pool = BlockPool(5, empty_first=empty_first)
    full, *empty = stored(pool, A) + pool.allocate(2)
    pool.release([*reversed(empty), full])
    assert numbers(pool.allocate(4)) == order


def test_the_tail_of_a_prompt_is_evicted_before_its_head() -> None:
    """Blocks released last to first are lost in that order, one event each."""
    pool = BlockPool(4)
    pool.release(reversed(stored(pool, A, B, C)))
    pool.allocate(2)
    assert pool.take_events() == [BlockRemoved((C,), 0), BlockRemoved((B,), 0)]
    assert pool.held() == {0: {A: 1}}


def test_a_released_block_is_found_until_it_is_given_away() -> None:
    """Content outlives its last reference, and ends with the block's next owner."""
    pool = BlockPool(3)
    (block,) = stored(pool, A)
    pool.release([block])
    assert pool.find(0, A) is block
    pool.allocate(2)
    assert pool.find(0, A) is None


def test_touching_a_free_block_takes_it_out_of_the_queue() -> None:
    """A hit saves a block from eviction for as long as it is referenced."""
    pool = BlockPool(3)
    (block,) = stored(pool, A)
    pool.release([block])
    pool.touch([block])
    assert numbers(pool.allocate(1)) == [2]
    assert pool.free_count == 0


def test_the_same_content_may_lie_twice_and_leaves_twice() -> None:
    """Copies are not merged: the oldest is found, each one's eviction is an event."""
    pool = BlockPool(3)
    first, second = stored(pool, A) + stored(pool, A)
    assert pool.held() == {0: {A: 2}}
    assert pool.find(0, A) is first
    pool.release([first, second])
    pool.allocate(1)
    assert pool.find(0, A) is second
    pool.allocate(1)
    assert pool.take_events() == [BlockRemoved((A,), 0)] * 2


def test_groups_hold_the_same_hash_apart() -> None:
    """One digest in two groups is two contents."""
    pool = BlockPool(4)
    full, window = pool.allocate(2)
    pool.store([full], 0, [A])
    pool.store([window], 1, [A])
    assert (pool.find(0, A), pool.find(1, A)) == (full, window)
    assert pool.held() == {0: {A: 1}, 1: {A: 1}}


def test_a_reset_is_refused_while_a_block_is_in_use() -> None:
    """A refused reset changes nothing and announces nothing."""
    pool = BlockPool(4)
    stored(pool, A)
    assert not pool.reset()
    assert pool.held() == {0: {A: 1}}
    assert pool.take_events() == []


def test_a_reset_forgets_everything_in_one_event() -> None:
    """After a reset nothing is found, and reusing the blocks removes nothing."""
    pool = BlockPool(4)
    pool.release(stored(pool, A, B))
    assert pool.reset()
    pool.allocate(3)
    assert pool.take_events() == [AllBlocksCleared()]
    assert pool.held() == {}


def test_releasing_what_nobody_holds_is_a_mistake_of_ours() -> None:
    """A second release of the last reference stops us."""
    pool = BlockPool(3)
    blocks = pool.allocate(1)
    pool.release(blocks)
    with pytest.raises(AssertionError, match="released by nobody"):
        pool.release(blocks)


@given(st.integers(0, 2**32), st.integers(2, 20))
def test_what_a_pool_promises_holds_after_any_operations(seed: int, size: int) -> None:
    """Free means unreferenced; counts add up; stores less removals are what is held."""
    random, pool = Random(seed), BlockPool(size)
    owned: list[Block] = []
    copies: dict[bytes, int] = {}
    for _ in range(60):
        if pool.free_count and random.random() < 0.5:
            block = pool.allocate(1)[0]
            owned.append(block)
            if random.random() < 0.8:
                content = bytes([random.randrange(6)])
                copies[content] = copies.get(content, 0) + 1
                pool.store([block], 0, [content])
        elif owned and random.random() < 0.7:
            pool.release([owned.pop(random.randrange(len(owned)))])
        else:
            hit = pool.find(0, bytes([random.randrange(6)]))
            if hit is not None:
                pool.touch([hit])
                owned.append(hit)
        for event in pool.take_events():
            assert isinstance(event, BlockRemoved)
            copies[event.hashes[0]] -= 1
        assert pool.used_count == len(set(owned))
        assert all(block.references == owned.count(block) for block in owned)
        assert pool.held().get(0, {}) == {content: count for content, count in copies.items() if count}
