"""
The dumb index: dictionaries, flags and loops, following docs/design/index.md to the letter.

It answers the same calls as `kvsync.index.Index` and is held against it, operation by operation. What events do
is in `model_record`; here is what can be asked. Blocks are objects, not hashes, which is why `block_hashes` and
`match_hashes` are missing: there are none. Missing too are `save`, `load`, `stats` and the memory ceiling, which
are about the other index's insides. One thread only.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, lcm
from types import TracebackType
from typing import Self

from kvsync.errors import ConfigError
from kvsync.testing.decoder import Dialect, Extra, Extras, decode_payload, medium_name
from kvsync.testing.model_record import COUNTERS, Block, GroupFacts, Medium, Record, Root
from kvsync.types import GPU, Applied, Engine, EngineHash, ExtraKeys, Match, Trust

SLOW_MEDIA = frozenset({"DISK", "STORAGE", "FS", "OBJ", "EXTERNAL", "SHARED_STORAGE"})
MIDDLE_MEDIA = frozenset({"CPU", "CPU_PINNED"})


@dataclass(frozen=True, slots=True)
class MediumRecord:
    """What is known of one medium, to look at."""

    trust: Trust
    reason: str
    entries: int
    doubtful: int


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """What is known of one engine, to look at."""

    engine: Engine
    model: str
    trust: Trust
    media: Mapping[str, MediumRecord]
    sequence: int | None
    lives: int
    block_size: int | None
    dialect: str | None
    orphans: int
    counters: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Query:
    """What is asked for."""

    tokens: tuple[int, ...]
    model: str
    lora: str | None
    cache_salt: str | None
    extra_keys: ExtraKeys

    def extras(self, start: int, end: int, dialect: Dialect) -> Extras:
        """What the block of these tokens depends on beside them, as an engine of this dialect tells it."""
        if dialect is Dialect.ABSENT:
            return ()
        extras: list[Extra] = []
        for identifier, offset, length in sorted(self.extra_keys, key=lambda extra_key: extra_key[1]):
            if offset < end and offset + length > start and length > 0:
                extras.append((identifier, offset - start) if dialect is Dialect.TAGGED else identifier)
        if start == 0 and self.cache_salt is not None:
            extras.append(self.cache_salt)
        return tuple(extras)

    def chain(self, root: Block | None, size: int, dialect: Dialect) -> list[Block | None]:
        """The query's whole blocks of this size; None from the first that nobody ever stored."""
        chain: list[Block | None] = []
        block = root
        for start in range(0, len(self.tokens) - size + 1, size):
            local = (self.tokens[start : start + size], self.extras(start, start + size, dialect))
            block = None if block is None else block.children.get(local)
            chain.append(block)
        return chain

    def is_certain(self, dialect: Dialect) -> bool:
        if dialect is Dialect.UNTAGGED:
            return self.cache_salt is None and not self.extra_keys
        return dialect is Dialect.TAGGED


def holds(facts: GroupFacts, held: Mapping[Block, object], chain: Sequence[Block | None], count: int) -> bool:
    """Whether a group would hit on the first `count` blocks of a chain."""
    if facts.is_mamba:
        needed = chain[count - 1 : count]
    elif facts.is_sliding:
        assert facts.window is not None
        needed = chain[count - min(count, ceil((facts.window - 1) / facts.block_size)) : count]
    else:
        needed = chain[:count]
    return all(block in held for block in needed)


def by_speed(medium: str) -> tuple[int, str]:
    """Sorts media, the fastest first."""
    if medium == GPU:
        return 0, medium
    if medium in MIDDLE_MEDIA:
        return 1, medium
    return (3 if medium in SLOW_MEDIA else 2), medium


class ModelIndex:
    """
    A dumb twin of `kvsync.index.Index`, for tests.

    `seed` is taken and means nothing; `max_bytes` must be None.
    """

    def __init__(self, *, max_bytes: int | None = None, seed: int | None = None) -> None:
        if max_bytes is not None:
            raise ConfigError(f"the model index keeps no ceiling: max_bytes is {max_bytes}, leave it out")
        del seed
        self._records: dict[Engine, Record] = {}
        self._roots: dict[Root, Block] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Forget everything."""
        self._records.clear()
        self._roots.clear()

    # ------------------------------------------------------------------ writing

    def apply(self, engine: Engine, payload: bytes | memoryview, *, model: str, sequence: int | None = None) -> Applied:
        record = self._records.setdefault(engine, Record(model, self._roots))
        if record.model != model:
            raise ConfigError(f"engine {engine} serves {record.model!r}, not {model!r}: remove it first")
        if not record.accept_number(sequence):
            return Applied()
        record.counters["frames"] += 1
        return record.apply(decode_payload(bytes(payload)))

    def clear(self, engine: Engine, medium: str | None = None) -> None:
        """The engine is known to hold nothing, there or anywhere."""
        record = self._records.get(engine)
        if record is None:
            return
        if medium is None:
            record.empty()
        elif medium_name(medium) in record.media:
            record.drop(medium_name(medium))
            record.media[medium_name(medium)] = Medium(Trust.EXACT)

    def restart(self, engine: Engine) -> None:
        """A new life: number 0 is expected, and until it comes nothing is sure to be all."""
        record = self._records.get(engine)
        if record is not None:
            record.begin()
            record.lives += 1

    def confirm(self, engine: Engine) -> None:
        """Nothing is ever loaded here, so nothing waits to be confirmed."""

    def doubt(self, engine: Engine, reason: str, medium: str | None = None) -> None:
        """All that is held there, or anywhere, may be gone."""
        record = self._records.get(engine)
        if record is None:
            return
        if medium is None:
            record.doubt_all(reason)
        elif medium_name(medium) in record.media:
            record.doubt(medium_name(medium), reason)
            record.complete = False

    def remove(self, engine: Engine) -> None:
        """The engine was never heard of."""
        self._records.pop(engine, None)

    # ------------------------------------------------------------------ reading

    def match(
        self,
        tokens: Iterable[int],
        *,
        model: str,
        lora: str | None = None,
        cache_salt: str | None = None,
        extra_keys: ExtraKeys | None = None,
        engines: Iterable[Engine] | None = None,
    ) -> Mapping[Engine, Match]:
        query = Query(tuple(tokens), model, lora or None, cache_salt or None, tuple(extra_keys or ()))
        asked = self._records.keys() if engines is None else set(engines) & self._records.keys()
        found = {engine: self._match_one(self._records[engine], query) for engine in asked}
        return {engine: match for engine, match in found.items() if match is not None}

    def match_many(
        self,
        prompts: Iterable[Iterable[int]],
        *,
        model: str,
        lora: str | None = None,
        cache_salt: str | None = None,
        extra_keys: ExtraKeys | None = None,
        engines: Iterable[Engine] | None = None,
    ) -> list[Mapping[Engine, Match]]:
        asked = None if engines is None else list(engines)
        return [
            self.match(tokens, model=model, lora=lora, cache_salt=cache_salt, extra_keys=extra_keys, engines=asked)
            for tokens in prompts
        ]

    def _match_one(self, record: Record, query: Query) -> Match | None:
        leading = record.leading_group()
        if record.model != query.model or leading is None or record.dialect is None:
            return None
        facts = {group: record.groups[group] for group in record.told_groups()}
        media = {group: record.media_of_blocks(group) for group in facts}
        chains = {
            size: query.chain(self._roots.get((query.model, query.lora, size)), size, record.dialect)
            for size in {group.block_size for group in facts.values()}
        }
        step = lcm(*chains)
        for tokens in range(len(query.tokens) // step * step, 0, -step):
            if all(
                holds(facts[group], media[group], chains[facts[group].block_size], tokens // facts[group].block_size)
                for group in facts
            ):
                blocks = tokens // facts[leading].block_size
                fastest = Counter(
                    min(media[leading].get(block, {GPU}), key=by_speed) if block is not None else GPU
                    for block in chains[facts[leading].block_size][:blocks]
                )
                certain = query.is_certain(record.dialect)
                return Match(blocks, tokens, dict(fastest), certain, record.worst_trust())
        return None

    def trust(self, engine: Engine, medium: str | None = None) -> Trust:
        record = self._records.get(engine)
        if record is None:
            return Trust.UNKNOWN
        if medium is None:
            return record.worst_trust()
        known = record.media.get(medium_name(medium))
        return Trust.UNKNOWN if known is None else known.trust

    def engines(self) -> list[Engine]:
        return sorted(self._records)

    def engine_hashes(self, engine: Engine) -> dict[str, dict[int, dict[EngineHash, int]]]:
        """Copies of every hash the engine holds; what holds nothing is left out."""
        listed: dict[str, dict[int, dict[EngineHash, int]]] = {}
        record = self._records.get(engine)
        for kind, entries in record.kinds.items() if record is not None else ():
            if entries:
                listed.setdefault(kind.medium, {})[kind.group] = {
                    engine_hash: entry.copies for engine_hash, entry in entries.items()
                }
        return listed

    def doubtful_hashes(self, engine: Engine, medium: str = GPU) -> set[tuple[int, EngineHash]]:
        """The (group, hash) pairs of a medium that may be untrue; only the model can tell which they are."""
        record = self._records.get(engine)
        if record is None:
            return set()
        return {(slot.kind.group, slot.hash) for slot, entry in record.entries_of(medium) if entry.doubtful}

    def record(self, engine: Engine) -> ModelRecord:
        """Everything there is to see of one engine; KeyError for one never heard."""
        record = self._records[engine]
        leading = record.leading_group()
        entries = {name: [entry for _, entry in record.entries_of(name)] for name in record.media}
        return ModelRecord(
            engine=engine,
            model=record.model,
            trust=record.worst_trust(),
            media={
                name: MediumRecord(
                    medium.trust, medium.reason, len(entries[name]), sum(entry.doubtful for entry in entries[name])
                )
                for name, medium in record.media.items()
            },
            sequence=record.sequence,
            lives=record.lives,
            block_size=None if leading is None else record.groups[leading].block_size,
            dialect=None if record.dialect is None else record.dialect.value,
            orphans=len(record.orphans),
            counters={name: record.counters[name] for name in COUNTERS},
        )
