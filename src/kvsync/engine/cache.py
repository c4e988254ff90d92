"""
The prefix cache of one rank: what of a request is there already, and which blocks it gets.

A model has one or several groups of layers. Every group takes blocks of its own from the one pool: a full
attention group keeps a request's blocks to the end, a sliding-window group gives back what slid out of the
window. A prefix is reusable as far as every group would hit: full attention needs all its blocks, a
window only the last ones before the end of the prefix.

At least one token is always computed, since logits come from nowhere else: of a prompt of T tokens at
most (T - 1) // block_size blocks are reused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvsync.engine.events import BlockStored, CacheEvent, GroupSpec
from kvsync.engine.hashing import BlockHasher, Digest
from kvsync.engine.pool import Block, BlockPool
from kvsync.engine.request import Request

FULL_ATTENTION = (GroupSpec(),)


@dataclass(frozen=True, slots=True)
class Hit:
    """Blocks found for a request's beginning, per group and in order, and how many tokens they spare."""

    blocks: tuple[tuple[Block, ...], ...]
    tokens: int


class PrefixCache:
    """
    Blocks for requests, reused where their prefixes are known.

    Not thread-safe: one rank, one owner. `pool.events` receives what happens, in order.
    """

    def __init__(
        self, pool: BlockPool, *, block_size: int, hasher: BlockHasher, groups: Sequence[GroupSpec] = FULL_ATTENTION
    ) -> None:
        assert any(group.window is None for group in groups), "a model has a full attention group"
        self.pool = pool
        self.block_size = block_size
        self.groups = tuple(groups)
        self._hasher = hasher

    def look_up(self, request: Request) -> Hit:
        """
        Find the longest reusable prefix; nothing is taken yet.

        A request that asks for full reports has the prefix announced again, whether or not it gets its
        blocks afterwards. A prefix of one block is not: no subscriber could tell it from a new copy.
        """
        self._name_blocks(request)
        count = min(len(request.hashes), (len(request.tokens) - 1) // self.block_size)
        hashes = request.hashes[:count]
        while True:
            found = [self._find(group, spec, hashes[:count]) for group, spec in enumerate(self.groups)]
            shortest = min(map(len, found))
            if shortest == max(map(len, found)):
                break
            count = shortest
        if request.asked.report_full and shortest >= 2 and len(self.groups) == 1:
            self.pool.events.append(self._stored(request, 0, 0, shortest))
        return Hit(tuple(map(tuple, found)), shortest * self.block_size)

    def allocate(self, request: Request, tokens_count: int, hit: Hit | None = None) -> bool:
        """
        Give the request blocks for its next `tokens_count` tokens.

        A request that holds nothing yet comes with its `hit` and gets those blocks first.
        Blocks that these tokens fill are named at once, before anything computes them: a request behind
        this one in the same step can reuse them. False, and nothing taken, if the pool has too few.
        """
        if hit is None:
            self._release_behind_windows(request)
        computed = hit.tokens if hit else request.computed
        wanted = -(-(computed + tokens_count) // self.block_size)
        missing = [wanted - len(held) for held in (hit.blocks if hit else request.blocks)]
        if sum(missing) + self._free_among(hit) > self.pool.free_count:
            return False
        if hit is not None:
            for found in hit.blocks:
                self.pool.touch(found)
            request.blocks = [list(found) for found in hit.blocks]
            request.stored = [len(found) for found in hit.blocks]
            request.computed = computed
        for held, count in zip(request.blocks, missing, strict=True):
            held += self.pool.allocate(count)
        self._store_full_blocks(request, computed + tokens_count)
        return True

    def release(self, request: Request) -> None:
        """Give back everything the request holds, tail first; what it filled stays to be found."""
        for held in request.blocks:
            self.pool.release(reversed(held))
        request.forget_blocks()

    def _free_among(self, hit: Hit | None) -> int:
        """Count the blocks of a hit that lie in the free queue: taking them leaves less room for new ones."""
        null = self.pool.null_block
        return sum(block.references == 0 and block is not null for found in hit.blocks for block in found) if hit else 0

    def _name_blocks(self, request: Request) -> None:
        """Name every full block of the request that has no name yet."""
        hashes, size = request.hashes, self.block_size
        for index in range(len(hashes), len(request.tokens) // size):
            start = index * size
            extras = request.asked.extras(start, start + size)
            parent = hashes[-1] if hashes else None
            hashes.append(self._hasher.digest(parent, request.tokens[start : start + size], extras))
            request.extras.append(extras)

    def _find(self, group: int, spec: GroupSpec, hashes: Sequence[Digest]) -> list[Block]:
        if spec.window is None:
            return self._find_from_start(group, hashes)
        return self._find_window(group, spec.window, hashes)

    def _find_from_start(self, group: int, hashes: Sequence[Digest]) -> list[Block]:
        found = []
        for digest in hashes:
            block = self.pool.find(group, digest)
            if block is None:
                break
            found.append(block)
        return found

    def _find_window(self, group: int, window: int, hashes: Sequence[Digest]) -> list[Block]:
        """
        Find the longest prefix whose last window is held; what lies before the window is the null block.
        """
        needed = -(-(window - 1) // self.block_size)
        found = [self.pool.null_block] * len(hashes)
        run = 0
        for index in range(len(hashes) - 1, -1, -1):
            block = self.pool.find(group, hashes[index])
            if block is None:
                run = 0
                continue
            found[index] = block
            run += 1
            if run >= needed:
                del found[index + run :]
                return found
        # No whole window anywhere: blocks held from the very start are a prefix of their own.
        return found[:run]

    def _release_behind_windows(self, request: Request) -> None:
        null = self.pool.null_block
        for group, spec in enumerate(self.groups):
            if spec.window is None:
                continue
            held = request.blocks[group]
            passed = []
            for index in range(max(0, request.computed - spec.window + 1) // self.block_size - 1, -1, -1):
                if held[index] is null:
                    break
                passed.append(held[index])
                held[index] = null
            self.pool.release(passed)

    def _store_full_blocks(self, request: Request, tokens_count: int) -> None:
        self._name_blocks(request)
        full = tokens_count // self.block_size
        for group, held in enumerate(request.blocks):
            known = request.stored[group]
            if full <= known:
                continue
            self.pool.store(held[known:full], group, request.hashes[known:full])
            self.pool.events.append(self._stored(request, group, known, full))
            request.stored[group] = full

    def _stored(self, request: Request, group: int, first: int, end: int) -> CacheEvent:
        size = self.block_size
        return BlockStored(
            hashes=tuple(request.hashes[first:end]),
            parent=request.hashes[first - 1] if first else None,
            tokens=request.tokens[first * size : end * size],
            block_size=size,
            lora=request.asked.lora,
            extras=tuple(request.extras[first:end]),
            group=group,
            spec=self.groups[group],
            session=request.asked.session,
            salt=request.asked.cache_salt,
        )
