"""
What each event does to the record of one engine: docs/design/index.md from "Stored" to "Trust", to the letter.

A block is not a hash here but an object, interned by (parent object, tokens, extras), so that nothing can
collide and no hashing rule can be wrong.

    Record   one engine: its media, kinds, group facts, orphans and ghosts
    Medium   trust, and what it rests on
    kind     (medium, group): hash -> Entry
    Entry    copies, doubt, and the block if it is tied

Where the page leaves a choice, these are taken:

- every hash that its own event cannot tie, an orphan's too, takes the block of a tied entry of the same hash;
  and block i of an event chains on the entry before it if that is tied, however it came to be. So nothing ever
  waits for a hash whose block is known;
- `parent_missing` and `removed_unknown` count every case; only on an exact medium is it evidence of loss;
- a removal names its medium and kind, but "the groups named on GPU" of a re-announcement are those of stores;
- an orphan stored again as an orphan goes on waiting for what the first event said;
- of several orphans that follow one hash the oldest is joined first, with all that follows it in turn; an entry
  tied meanwhile keeps its block. It matters only where one hash was told of two blocks;
- a beginning that turns out unseen makes every medium partial, also one that `clear()` had called empty before;
- a cleared event, and the doubt that it brings, do not spoil `complete`; `doubt()` does;
- `placeholders` and `masked` count hashes; a medium's name with a NUL in it is beyond a limit.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from kvsync.testing.decoder import (
    ClearedEvent,
    Decoded,
    Dialect,
    Event,
    Extras,
    Reason,
    RemovedEvent,
    SkippedEvent,
    StoredEvent,
)
from kvsync.types import GPU, Applied, EngineHash, Trust

MEDIA_MAX = 8
KINDS_MAX = 32
ORPHANS_MAX = 16384

SLIDING_WINDOW_KINDS = frozenset({"sliding_window", "sliding_window_mla"})
MAMBA_KIND = "mamba"
COUNTERS = (
    "frames",
    "duplicate",
    "gaps",
    "stored",
    "removed",
    "cleared",
    "reannounced",
    "skipped_type",
    "skipped_range",
    "skipped_hash",
    "skipped_depth",
    "skipped_truncated",
    "skipped_limit",
    "skipped_batch",
    "unknown_tag",
    "unknown_field",
    "trailing",
    "removed_unknown",
    "parent_missing",
    "placeholders",
    "masked",
    "retied",
    "orphans_dropped",
)

NO_REASON = "none"
BEGINNING = "beginning unseen"
GAP = "gap"
UNDECODABLE = "undecodable event"
REMOVED_UNKNOWN = "removal of a block not held"
PARENT_MISSING = "parent never stored"
CLEARED_ABOVE = "a faster medium was cleared"

Local: TypeAlias = tuple[tuple[int, ...], Extras]
"""What a block is by itself: its tokens and its extras."""


class KindKey(NamedTuple):
    """Where a copy lies, and to which group it belongs."""

    medium: str
    group: int


class Slot(NamedTuple):
    """The name of an entry."""

    kind: KindKey
    hash: EngineHash


class Block:
    """One block of one prompt: everything from the start to its end. The same prompt, the same object."""

    __slots__ = ("children",)

    def __init__(self) -> None:
        self.children: dict[Local, Block] = {}

    def child(self, local: Local) -> Block:
        """The block that follows this one with these tokens and extras."""
        return self.children.setdefault(local, Block())


@dataclass(slots=True)
class Orphan:
    """What an untied entry needs to find its block once its predecessor's is known."""

    predecessor: EngineHash
    local: Local


@dataclass(slots=True)
class Entry:
    """One (kind, hash) that is held."""

    copies: int = 0
    doubtful: bool = False
    block: Block | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Ghost:
    """A removed entry whose block is remembered for a while."""

    slot: Slot
    block: Block


@dataclass(slots=True)
class Medium:
    """Trust in what the engine holds in one place, and why it is not more."""

    trust: Trust
    reason: str = NO_REASON


@dataclass(slots=True)
class GroupFacts:
    """What a group of KV caches is, as far as it was told in this life."""

    spec_kind: str | None = None
    window: int | None = None
    block_size: int = 0

    @property
    def is_sliding(self) -> bool:
        return self.spec_kind in SLIDING_WINDOW_KINDS and self.window is not None

    @property
    def is_mamba(self) -> bool:
        return self.spec_kind == MAMBA_KIND

    @property
    def is_full_attention(self) -> bool:
        return not self.is_sliding and not self.is_mamba


@dataclass(slots=True)
class Tally:
    """What one payload did."""

    stored: int = 0
    removed: int = 0
    cleared: int = 0
    skipped: int = 0
    reannounced: int = 0


Root: TypeAlias = tuple[str, object, int]


@dataclass(slots=True)
class Record:
    """Everything known of one engine, and what each event does to it."""

    model: str
    roots: dict[Root, Block]
    counters: Counter[str] = field(default_factory=Counter)
    lives: int = 1
    sequence: int | None = None
    media: dict[str, Medium] = field(default_factory=dict)
    kinds: dict[KindKey, dict[EngineHash, Entry]] = field(default_factory=dict)
    groups: dict[int, GroupFacts] = field(default_factory=dict)
    groups_stored_on_gpu: set[int] = field(default_factory=set)
    ghosts: dict[Slot, Ghost] = field(default_factory=dict)
    orphans: dict[Slot, Orphan] = field(default_factory=dict)
    dialect: Dialect | None = None
    complete: bool = False
    expects_beginning: bool = True

    def __post_init__(self) -> None:
        self.begin()

    def begin(self) -> None:
        """Begin a life, of which nothing has been heard."""
        for part in (
            self.media,
            self.kinds,
            self.groups,
            self.groups_stored_on_gpu,
            self.ghosts,
            self.orphans,
        ):
            part.clear()
        self.media[GPU] = Medium(Trust.PARTIAL, BEGINNING)
        self.dialect = self.sequence = None
        self.complete, self.expects_beginning = False, True

    def empty(self) -> None:
        """Take note that the engine holds nothing now, so that any next number continues."""
        for name in self.media:
            self.drop(name)
            self.media[name].trust, self.media[name].reason = Trust.EXACT, NO_REASON
        self.sequence = None
        self.complete, self.expects_beginning = True, False

    # ------------------------------------------------------------------ numbers and trust

    def accept_number(self, number: int | None) -> bool:
        """Take note of a frame's number; False when the frame was applied before."""
        if number is not None and self.sequence is not None and number <= self.sequence:
            self.counters["duplicate"] += 1
            return False
        if self.expects_beginning:
            self.expects_beginning = False
            self.complete = number == 0
            for medium in self.media.values():
                medium.trust, medium.reason = (Trust.EXACT, NO_REASON) if self.complete else (Trust.PARTIAL, BEGINNING)
        elif number is not None and self.sequence is not None and number > self.sequence + 1:
            self.counters["gaps"] += 1
            self.doubt_all(GAP)
        if number is not None:
            self.sequence = number
        return True

    def worst_trust(self) -> Trust:
        return max((medium.trust for medium in self.media.values()), key=lambda trust: trust.rank)

    def name_medium(self, name: str) -> Medium:
        if name not in self.media:
            self.media[name] = Medium(Trust.EXACT) if self.complete else Medium(Trust.PARTIAL, self.media[GPU].reason)
        return self.media[name]

    def doubt_all(self, reason: str) -> None:
        for name in self.media:
            self.doubt(name, reason)
        self.complete = False

    def doubt(self, name: str, reason: str) -> None:
        for _, entry in self.entries_of(name):
            entry.doubtful = True
        self.media[name].trust, self.media[name].reason = Trust.STALE, reason
        self.settle(name)

    def settle(self, name: str) -> None:
        """A stale medium without a doubtful entry is partial."""
        if self.media[name].trust is Trust.STALE and not any(entry.doubtful for _, entry in self.entries_of(name)):
            self.media[name].trust = Trust.PARTIAL

    def entries_of(self, medium: str) -> Iterator[tuple[Slot, Entry]]:
        for kind, entries in self.kinds.items():
            if kind.medium == medium:
                for engine_hash, entry in entries.items():
                    yield Slot(kind, engine_hash), entry

    # ------------------------------------------------------------------ looking for blocks

    def kinds_from(self, own: KindKey) -> list[KindKey]:
        """A kind, then the others in the order they came to exist."""
        return [own, *(kind for kind in self.kinds if kind != own)]

    def tied_block(self, own: KindKey, engine_hash: EngineHash) -> Block | None:
        """The block of any entry of this hash, held or ghost."""
        for kind in self.kinds_from(own):
            entry = self.kinds[kind].get(engine_hash)
            if entry is not None and entry.block is not None:
                return entry.block
            if Slot(kind, engine_hash) in self.ghosts:
                return self.ghosts[Slot(kind, engine_hash)].block
        return None

    def is_held(self, engine_hash: EngineHash) -> bool:
        return any(engine_hash in entries for entries in self.kinds.values())

    def root(self, event: StoredEvent) -> Block:
        return self.roots.setdefault((self.model, event.lora, event.block_size), Block())

    # ------------------------------------------------------------------ stored

    def store(self, event: StoredEvent, tally: Tally) -> None:
        if not event.hashes:
            return
        kind = KindKey(event.medium, event.group)
        if not self.name_kind(kind):
            self.skip(Reason.LIMIT, tally)
            return
        medium = self.media[event.medium]
        if event.medium == GPU:
            self.groups_stored_on_gpu.add(event.group)
        locals_ = self.learn_and_cut(event)
        if locals_ is not None and event.parent is not None:
            self.look_for_loss(event, kind, medium)
        spares_copies = locals_ is not None and self.is_reannouncement(event, medium)
        predecessor = event.parent
        for i, engine_hash in enumerate(event.hashes):
            slot = Slot(kind, engine_hash)
            self.enter(slot, spares_copies, tally)
            if locals_ is None:
                self.tie_by_hash(slot)
            else:
                self.tie_by_tokens(slot, predecessor, locals_[i], event)
            self.ghosts.pop(slot, None)
            predecessor = engine_hash
        self.settle(event.medium)

    def name_kind(self, kind: KindKey) -> bool:
        """Let a medium and a kind exist; False, and nothing done, beyond the limits."""
        if kind.medium not in self.media and len(self.media) >= MEDIA_MAX:
            return False
        if kind not in self.kinds and len(self.kinds) >= KINDS_MAX:
            return False
        if "\0" in kind.medium:
            return False
        self.name_medium(kind.medium)
        self.kinds.setdefault(kind, {})
        return True

    def learn_and_cut(self, event: StoredEvent) -> list[Local] | None:
        """The blocks an event ties its hashes to, None when it cannot; what it teaches is kept."""
        count, size = len(event.hashes), event.block_size
        if not event.tokens:
            self.counters["placeholders"] += count
            return None
        if len(event.tokens) != count * size or (event.extras is not None and len(event.extras) != count):
            self.counters["masked"] += count
            return None
        facts = self.groups.setdefault(event.group, GroupFacts())
        facts.block_size = max(facts.block_size, size)
        facts.spec_kind = facts.spec_kind if event.spec_kind is None else event.spec_kind
        facts.window = facts.window if event.window is None else event.window
        self.dialect = event.dialect
        extras: list[Extras] = list(event.extras) if event.extras is not None else [()] * count
        if event.extras is None and event.parent is None and event.cache_salt is not None:
            extras[0] = (event.cache_salt,)
        return [(event.tokens[i * size : (i + 1) * size], extras[i]) for i in range(count)]

    def look_for_loss(self, event: StoredEvent, kind: KindKey, medium: Medium) -> None:
        assert event.parent is not None
        if self.tied_block(kind, event.parent) is not None or self.is_held(event.parent):
            return
        self.counters["parent_missing"] += 1
        if event.medium == GPU and medium.trust is Trust.EXACT:
            self.complete = False
            self.doubt(GPU, PARENT_MISSING)

    def is_reannouncement(self, event: StoredEvent, medium: Medium) -> bool:
        if event.medium != GPU or event.parent is not None or self.groups_stored_on_gpu != {event.group}:
            return False
        if medium.trust is not Trust.EXACT:
            return True
        entries = self.kinds[KindKey(GPU, event.group)]
        return len(event.hashes) >= 2 and all(engine_hash in entries for engine_hash in event.hashes)

    def enter(self, slot: Slot, spares_copies: bool, tally: Tally) -> None:
        """Count one more copy, or none where the event only tells again what is held."""
        entries = self.kinds[slot.kind]
        entry = entries.get(slot.hash)
        if entry is None:
            entries[slot.hash] = Entry(copies=1)
            tally.stored += 1
        elif entry.doubtful:
            entry.copies, entry.doubtful = 1, False
            self.count_again(spares_copies, tally)
        else:
            entry.copies += 0 if spares_copies else 1
            self.count_again(spares_copies, tally)

    def count_again(self, spares_copies: bool, tally: Tally) -> None:
        if spares_copies:
            tally.reannounced += 1
        else:
            tally.stored += 1

    def tie_by_tokens(self, slot: Slot, predecessor: EngineHash | None, local: Local, event: StoredEvent) -> None:
        before = self.root(event) if predecessor is None else self.tied_block(slot.kind, predecessor)
        if before is not None:
            block, known = before.child(local), self.entry(slot).block
            if known is not None and known is not block:
                self.counters["retied"] += 1
            self.tie(slot, block)
            return
        self.tie_by_hash(slot)
        if self.entry(slot).block is None and slot not in self.orphans:
            assert predecessor is not None
            self.keep_aside(slot, Orphan(predecessor, local))

    def tie_by_hash(self, slot: Slot) -> None:
        if self.entry(slot).block is None:
            block = self.tied_block(slot.kind, slot.hash)
            if block is not None:
                self.tie(slot, block)

    # ------------------------------------------------------------------ orphans

    def keep_aside(self, slot: Slot, orphan: Orphan) -> None:
        if len(self.orphans) >= ORPHANS_MAX:
            self.counters["orphans_dropped"] += 1
        else:
            self.orphans[slot] = orphan

    def tie(self, slot: Slot, block: Block) -> None:
        """Give an entry its block, and then every entry that only waited for this one."""
        self.give(slot, block)
        joining = self.take_followers(slot.hash, block)
        while joining:
            slot, block = joining.pop(0)
            if self.entry(slot).block is None:
                self.give(slot, block)
                joining = self.take_followers(slot.hash, block) + joining

    def give(self, slot: Slot, block: Block) -> None:
        """Tie an entry, and the untied entries of the same hash in other kinds."""
        self.entry(slot).block = block
        self.orphans.pop(slot, None)
        for kind, entries in self.kinds.items():
            twin = entries.get(slot.hash)
            if twin is not None and twin.block is None:
                twin.block = block
                self.orphans.pop(Slot(kind, slot.hash), None)

    def take_followers(self, engine_hash: EngineHash, block: Block) -> list[tuple[Slot, Block]]:
        """The orphans whose predecessor this hash is, oldest first, with the block that follows from it."""
        slots = [slot for slot, orphan in self.orphans.items() if orphan.predecessor == engine_hash]
        return [(slot, block.child(self.orphans.pop(slot).local)) for slot in slots]

    def entry(self, slot: Slot) -> Entry:
        return self.kinds[slot.kind][slot.hash]

    # ------------------------------------------------------------------ removed, cleared, skipped

    def remove(self, event: RemovedEvent, tally: Tally) -> None:
        if not event.hashes:
            return
        kind = KindKey(event.medium, event.group)
        if not self.name_kind(kind):
            self.skip(Reason.LIMIT, tally)
            return
        medium = self.media[event.medium]
        for engine_hash in event.hashes:
            if engine_hash in self.kinds[kind]:
                self.take_copy(Slot(kind, engine_hash))
                tally.removed += 1
            else:
                self.counters["removed_unknown"] += 1
                if medium.trust is Trust.EXACT:
                    self.complete = False
                    self.doubt(event.medium, REMOVED_UNKNOWN)
        self.settle(event.medium)

    def take_copy(self, slot: Slot) -> None:
        entry = self.entry(slot)
        entry.copies = 0 if entry.doubtful else entry.copies - 1
        if entry.copies:
            return
        del self.kinds[slot.kind][slot.hash]
        self.orphans.pop(slot, None)
        if entry.block is not None:
            self.ghosts[slot] = Ghost(slot, entry.block)

    def clear_gpu(self, tally: Tally) -> None:
        self.ghosts.clear()
        tally.cleared += self.drop(GPU)
        self.media[GPU].trust, self.media[GPU].reason = Trust.EXACT, NO_REASON
        for name in self.media:
            if name != GPU:
                self.doubt(name, CLEARED_ABOVE)

    def drop(self, medium: str) -> int:
        """Forget every entry, orphan and ghost of a medium; how many entries there were."""
        dropped = 0
        for kind, entries in self.kinds.items():
            if kind.medium == medium:
                dropped += len(entries)
                entries.clear()
        for slots in (self.orphans, self.ghosts):
            for slot in [slot for slot in slots if slot.kind.medium == medium]:
                del slots[slot]
        return dropped

    def skip(self, reason: Reason, tally: Tally) -> None:
        tally.skipped += 1
        self.counters[f"skipped_{reason}"] += 1
        self.doubt_all(UNDECODABLE)

    # ------------------------------------------------------------------ one payload

    def apply(self, decoded: Decoded) -> Applied:
        tally = Tally()
        for event in decoded.events:
            self.apply_event(event, tally)
        self.ghosts.clear()
        for name in ("unknown_tag", "unknown_field", "trailing"):
            self.counters[name] += getattr(decoded, name)
        for name in ("stored", "removed", "cleared", "reannounced"):
            self.counters[name] += getattr(tally, name)
        return Applied(tally.stored, tally.removed, tally.cleared, tally.skipped, tally.reannounced)

    def apply_event(self, event: Event, tally: Tally) -> None:
        match event:
            case StoredEvent():
                self.store(event, tally)
            case RemovedEvent():
                self.remove(event, tally)
            case ClearedEvent():
                self.clear_gpu(tally)
            case SkippedEvent():
                self.skip(event.reason, tally)

    # ------------------------------------------------------------------ match

    def told_groups(self) -> list[int]:
        """The groups that had a store with tokens in this life, in the order they were first named."""
        return [group for group in dict.fromkeys(kind.group for kind in self.kinds) if group in self.groups]

    def leading_group(self) -> int | None:
        """The group whose blocks are counted: the first with full attention, else the first."""
        told = self.told_groups()
        full = [group for group in told if self.groups[group].is_full_attention]
        return next(iter(full or told), None)

    def media_of_blocks(self, group: int) -> dict[Block, set[str]]:
        """Where each block of a group is held."""
        media: dict[Block, set[str]] = {}
        for kind, entries in self.kinds.items():
            if kind.group == group:
                for entry in entries.values():
                    if entry.block is not None:
                        media.setdefault(entry.block, set()).add(kind.medium)
        return media
