"""
The block pool: which blocks exist, which are free, and what the full ones hold.

    free queue    head [ 7 ][ 3 ][ 9 ] ... [ 4 ] tail
                   ^ allocated next           ^ freed last

A block is in the free queue exactly while nobody references it. It keeps its content there and can be
found and taken back out, until it reaches the head and is given to somebody else: only then is the
content evicted. A block without content goes to the head at once, for there is nothing in it to lose
(`empty_first`; releases before vLLM 0.24 queue it up like any other).

All blocks start free in the order of their ids; block 0 is taken out at once and stands for "no block" for
ever, so a pool of n blocks holds n - 1.

The same content may lie in several blocks: two requests that fill the same block at once keep a copy each,
and each copy is stored and removed in events of its own.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence

from kvsync.engine.events import AllBlocksCleared, BlockRemoved, CacheEvent
from kvsync.engine.hashing import Digest


class Block:
    """One block of the pool; `key` is (group, digest) while it holds a full, findable block."""

    __slots__ = ("key", "number", "references")

    def __init__(self, number: int) -> None:
        self.number = number
        self.references = 0
        self.key: tuple[int, Digest] | None = None

    def __repr__(self) -> str:
        return f"<Block {self.number} references={self.references} {'full' if self.key else 'open'}>"


class BlockPool:
    """
    A fixed number of blocks, least recently used first out.

    What happens is noted in `events`, in order, until somebody takes them.
    """

    def __init__(self, blocks_count: int, *, empty_first: bool = True) -> None:
        assert blocks_count >= 2, "one block stands for none, so a pool needs two"
        self._empty_first = empty_first
        self._blocks = [Block(number) for number in range(blocks_count)]
        self._free: OrderedDict[int, Block] = OrderedDict((block.number, block) for block in self._blocks)
        # Per content the blocks that hold it, oldest copy first.
        self._holders: dict[tuple[int, Digest], dict[int, Block]] = {}
        self.events: list[CacheEvent] = []
        self.null_block = self._free.popitem(last=False)[1]

    def __repr__(self) -> str:
        return f"<BlockPool {self.used_count} of {self.usable_count} used, {len(self._holders)} contents>"

    @property
    def usable_count(self) -> int:
        return len(self._blocks) - 1

    @property
    def free_count(self) -> int:
        """Blocks that nobody references; many of them still hold something."""
        return len(self._free)

    @property
    def used_count(self) -> int:
        return self.usable_count - self.free_count

    def find(self, group: int, digest: Digest) -> Block | None:
        """Give the oldest block with this content, referenced or not; looking does not touch it."""
        holders = self._holders.get((group, digest))
        return next(iter(holders.values())) if holders else None

    def touch(self, blocks: Iterable[Block]) -> None:
        """Reference blocks that were found: one that was free leaves the free queue."""
        for block in blocks:
            if block is self.null_block:
                continue
            if block.references == 0:
                del self._free[block.number]
            block.references += 1

    def allocate(self, count: int) -> list[Block]:
        """
        Take `count` blocks from the head of the free queue, evicting what they held.

        The caller has made sure that `free_count` is enough.
        """
        assert count <= self.free_count, f"asked for {count} blocks, {self.free_count} are free"
        taken = []
        for _ in range(count):
            block = self._free.popitem(last=False)[1]
            self._evict(block)
            block.references = 1
            taken.append(block)
        return taken

    def store(self, blocks: Sequence[Block], group: int, digests: Sequence[Digest]) -> None:
        """Note that each block is now full and holds the content named beside it."""
        for block, digest in zip(blocks, digests, strict=True):
            assert block.key is None, f"{block!r} is stored twice"
            assert block.references, f"{block!r} is stored while free"
            block.key = (group, digest)
            self._holders.setdefault(block.key, {})[block.number] = block

    def release(self, blocks: Iterable[Block]) -> None:
        """
        Give up one reference of each block; what nobody references any more queues up in the given order.

        A request gives its blocks from last to first, so that the tail of a prompt is evicted before its head.
        """
        empty = []
        for block in blocks:
            if block is self.null_block:
                continue
            assert block.references > 0, f"{block!r} is released by nobody"
            block.references -= 1
            if block.references == 0:
                self._free[block.number] = block
                if block.key is None and self._empty_first:
                    empty.append(block)
        for block in reversed(empty):
            self._free.move_to_end(block.number, last=False)

    def reset(self) -> bool:
        """
        Forget all contents, unless a block is in use: then nothing happens and nothing is announced.
        """
        if self.used_count:
            return False
        for holders in self._holders.values():
            for block in holders.values():
                block.key = None
        self._holders.clear()
        self.events.append(AllBlocksCleared())
        return True

    def held(self) -> dict[int, dict[Digest, int]]:
        """List what the pool truly holds: per group, per content, the number of copies."""
        groups: dict[int, dict[Digest, int]] = {}
        for (group, digest), holders in self._holders.items():
            groups.setdefault(group, {})[digest] = len(holders)
        return groups

    def take_events(self) -> list[CacheEvent]:
        taken, self.events = self.events, []
        return taken

    def _evict(self, block: Block) -> None:
        if block.key is None:
            return
        group, digest = block.key
        holders = self._holders[block.key]
        del holders[block.number]
        if not holders:
            del self._holders[block.key]
        block.key = None
        self.events.append(BlockRemoved((digest,), group))
