"""
The index as Python sees it: engines have names here and numbers below, and that is nearly all there is.

Threads. Any method may be called from any thread. A call borrows the core for as long as it runs, so that `close()`
beside it is safe: the core ends when the last call does. What an engine is called is decided under `_naming`; the
core has locks of its own (csrc/include/kvsync.h).
"""

from __future__ import annotations

import os
import secrets
import threading
import warnings
from array import array
from collections import deque
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from kvsync._core import check, ffi, lib, text
from kvsync.errors import ClosedError, ConfigError
from kvsync.index.adapters import adapters_of, engines_with
from kvsync.index.frames import AppliedMany, lend_frame
from kvsync.index.matches import NOBODY, TRUST_BY_NUMBER, Matches
from kvsync.index.query import lend_query
from kvsync.index.record import Lag, MediumRecord, Record
from kvsync.index.saving import Hold, load_records, save_record, unheld
from kvsync.index.snapshot import Contents, Row, SnapshotFile, make_pieces, write_snapshot
from kvsync.index.stats import IndexStats, read_stats
from kvsync.index.texts import utf8
from kvsync.index.tokens import Tokens, lend_hashes, lend_tokens
from kvsync.types import GPU, Applied, Bookmark, Engine, EngineHash, ExtraKeys, Match, Trust

DIALECT_BY_NUMBER = {
    lib.KVS_DIALECT_NONE: None,
    lib.KVS_DIALECT_ABSENT: "absent",
    lib.KVS_DIALECT_UNTAGGED: "untagged",
    lib.KVS_DIALECT_TAGGED: "tagged",
}

LAG_BOUNDS_S = tuple(lib.kvs_lag_bound(number) for number in range(lib.KVS_LAG_COUNTS - 1))
"""Upper bounds of `Lag.counts`, in seconds."""

COUNTER_NAMES = tuple(text(lib.kvs_counter_name(number)) for number in range(lib.KVS_COUNTERS_COUNT))

# Looked up once: these two are asked thousands of times a second.
_match_tokens, _match_hashes = lib.kvs_index_match_tokens, lib.kvs_index_match_hashes

_rooms: deque[Any] = deque()
"""Where the core writes where its answer is: a `kvs_matches **` for each call that was under way at once."""


def _take_room() -> Any:
    try:
        return _rooms.pop()
    except IndexError:
        return ffi.new("kvs_matches **")


def _upper(medium: str) -> str:
    """A medium's name as the core shows it: only ASCII letters have a case there."""
    return medium.encode().upper().decode()


class Index:
    """
    Which engine holds which prefix block.

    `max_bytes` is a ceiling on everything the index allocates, in bytes: at the ceiling the deepest blocks of the
    largest record are given up, and that engine turns `partial`. `engine_entries_max` is what one engine may hold,
    over its media and groups: beyond it gives up its own deepest blocks, whatever room there is. `seed` (64 bits,
    random if None) goes into every block hash and is a secret: who knows it can craft prompts that collide.

    Raises ValueError for arguments out of range, MemoryError, and ClosedError from every call after `close()`.
    """

    def __init__(
        self, *, max_bytes: int | None = None, engine_entries_max: int | None = None, seed: int | None = None
    ) -> None:
        if max_bytes is not None and not 0 < max_bytes < 2**63:
            raise ValueError(f"max_bytes is {max_bytes}: give a positive number of bytes, or None for no ceiling")
        if seed is not None and not 0 <= seed < 2**64:
            raise ValueError(f"seed is {seed}: give 0 .. 2**64-1, or None for a random one")
        if engine_entries_max is not None and not 0 < engine_entries_max < 2**63:
            raise ValueError(
                f"engine_entries_max is {engine_entries_max}: give a positive number, or None for no limit"
            )
        options = ffi.new("kvs_options *")
        options.entries_max = engine_entries_max or 0
        options.seed = secrets.randbits(64) if seed is None else seed
        options.bytes_max = max_bytes or 0
        made = ffi.new("kvs_index **")
        self._core: Any = None
        check(lib.kvs_index_create(options, made))
        self._adopt(made[0])

    def _adopt(self, core: Any) -> None:
        self._core = ffi.gc(core, lib.kvs_index_destroy)
        self._naming = threading.Lock()
        self._numbers: dict[Engine, int] = {}
        self._models: dict[Engine, str] = {}
        self._engines: list[Engine] = []  # by number; only ever grows, because answers refer to it
        self._media: dict[int, str] = {}
        self._told: dict[Engine, dict[str, str]] = {}  # reasons of doubt, by medium; "" for any other
        self.bookmarks: dict[Engine, Bookmark] = {}
        """Of the engines that were loaded, the batch that each record ended with; never changed afterwards."""
        self.saved_trust: dict[Engine, Trust] = {}
        """Of the engines that were loaded, how each record was trusted when it was saved; never changed afterwards."""

    # ------------------------------------------------------------------ life

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_core", None) is not None:
            warnings.warn(f"{self!r} was never closed", ResourceWarning, stacklevel=2, source=self)

    def __repr__(self) -> str:
        if self._core is None:
            return "<Index closed>"
        stats = self.stats()
        return f"<Index engines={stats['engines']} blocks={stats['blocks']} bytes={stats['bytes']}>"

    def close(self) -> None:
        """Give everything back. Answers handed out before stay valid; closing twice is allowed."""
        self._core = None

    def _borrow(self) -> Any:
        core = self._core
        if core is None:
            raise ClosedError("the index is closed: make a new one")
        return core

    # ------------------------------------------------------------------ snapshots

    def save(self, path: str | os.PathLike[str], *, hold: Hold = unheld) -> Contents:
        """
        Write everything to a file: atomically, with a checksum, mode 0600 (it holds the seed).

        Each engine is saved as of a moment of its own. `hold` is asked for each: a context in which nothing is applied
        to that engine, and which gives its bookmark. Matches go on meanwhile; frames wait while one record is taken,
        never for the whole. Raises OSError if the file cannot be written, MemoryError.
        """
        return write_snapshot(path, self.snapshot(hold=hold))

    def snapshot(self, *, hold: Hold = unheld) -> Generator[bytes | memoryview, None, Contents]:
        """The same as pieces, in the order of the file; each engine is saved when its piece is asked for."""
        core = self._borrow()
        return make_pieces(int(lib.kvs_index_seed(core)), self._records(core, hold))

    def _records(self, core: Any, hold: Hold) -> Iterator[tuple[Row, memoryview]]:
        for engine in self.engines():
            with self._naming:
                number, model = self._numbers.get(engine), self._models.get(engine)
            if number is None or model is None:
                continue
            saved = save_record(core, number, engine, model, hold)
            if saved is not None:
                yield saved

    @classmethod
    def load(
        cls, path: str | os.PathLike[str], *, max_bytes: int | None = None, engine_entries_max: int | None = None
    ) -> Self:
        """
        An index as it was saved, with its seed and each engine's last sequence number.

        Engines may have gone on, or begun anew, since then: each reads as `stale` until `confirm`, or until a clear, a
        restart or doubt settles it. `bookmarks` says where their streams may go on, and `saved_trust` which of
        the records were whole.

        Raises ConfigError if the file cannot be opened, FrameError if it is no snapshot, cut, damaged or of another
        version, MemoryError if it needs more than `max_bytes`.
        """
        with SnapshotFile(path) as file:
            index = cls(max_bytes=max_bytes, engine_entries_max=engine_entries_max, seed=file.seed)
            try:
                index._take_over(file.contents.rows, load_records(index._core, file))
            except MemoryError as error:
                index.close()
                raise MemoryError(f"{file.name} needs more memory than is allowed: raise max_bytes") from error
            except BaseException:
                index.close()
                raise
        return index

    def _take_over(self, rows: Iterable[Row], numbers: Iterable[int]) -> None:
        for row, number in zip(rows, numbers, strict=True):
            self._engines.append(row.engine)
            self._numbers[row.engine], self._models[row.engine] = number, row.model
            self.saved_trust[row.engine] = row.trust
            # The record that was loaded has the last word on where it ends.
            if row.bookmark is not None and row.bookmark.number == self.record(row.engine).sequence:
                self.bookmarks[row.engine] = row.bookmark

    # ------------------------------------------------------------------ engines

    def register(self, engine: Engine, *, model: str) -> None:
        """
        Begin a record for an engine before anything is heard of it; does nothing if there is one.

        Raises ConfigError if the record is for another model.
        """
        self._number(self._borrow(), engine, model)

    def _number(self, core: Any, engine: Engine, model: str) -> int:
        number = self._numbers.get(engine)
        if number is not None and self._models.get(engine) == model:
            return number
        with self._naming:
            known = self._models.get(engine)
            if known is not None:
                if known != model:
                    raise ConfigError(
                        f"engine {engine} is recorded with model {known!r}, not {model!r}: remove() it first"
                    )
                return self._numbers[engine]
            name = utf8("model", model)
            made = ffi.new("uint32_t *")
            check(lib.kvs_index_engine_add(core, ffi.from_buffer("char[]", name), len(name), made))
            self._engines += [engine] * (made[0] + 1 - len(self._engines))
            self._numbers[engine] = made[0]
            self._models[engine] = model
            return int(made[0])

    def remove(self, engine: Engine) -> None:
        """Forget an engine altogether; does nothing if it is not known. Costs O(its own blocks)."""
        core = self._borrow()
        with self._naming:
            number = self._numbers.get(engine)
            if number is None:
                return
            status = lib.kvs_index_engine_remove(core, number)
            if status == lib.KVS_OK:
                del self._numbers[engine], self._models[engine]
                self._told.pop(engine, None)
        check(status)

    def engines(self) -> list[Engine]:
        """The engines with a record, sorted."""
        self._borrow()
        with self._naming:
            return sorted(self._numbers)

    # ------------------------------------------------------------------ writing

    def apply(self, engine: Engine, payload: Any, *, model: str, sequence: int | None = None) -> Applied:
        """
        Apply one event batch, given as the bytes the engine sent.

        Whatever the bytes are, this does not raise for them: an event that cannot be decoded is skipped, counted
        by its reason in the engine's record, and makes the engine `stale`. A `sequence` up to the last one applied is a
        duplicate and changes nothing; one beyond the next is a hole, and makes it `stale`.

        Raises ConfigError if the engine's record is for another model, ValueError for a sequence out of range,
        TypeError for a payload that is no buffer.
        """
        core = self._borrow()
        data, number_told = lend_frame(payload, sequence)
        applied = ffi.new("kvs_applied *")
        number = self._number(core, engine, model)
        check(lib.kvs_index_apply(core, number, data, len(data), number_told, applied))
        return Applied(applied.stored, applied.removed, applied.cleared, applied.skipped, applied.reannounced)

    def apply_many(self, items: Sequence[tuple[Engine, Any, str, int | None]]) -> Sequence[Applied]:
        """
        Apply several frames in one turn, each as (engine, payload, model, sequence): the same as `apply` for one after
        the other, and cheaper where frames are small. Matches go on meanwhile; other writers wait.

        Raises as `apply`, and then nothing was applied.
        """
        core = self._borrow()
        lent = [lend_frame(payload, sequence) for _, payload, _, sequence in items]
        numbers = [self._number(core, engine, model) for engine, _, model, _ in items]
        count = len(items)
        applied, done = ffi.new("kvs_applied[]", count), ffi.new("size_t *")
        check(
            lib.kvs_index_apply_many(
                core,
                count,
                ffi.new("uint32_t[]", numbers),
                ffi.new("uint8_t *[]", [data for data, _ in lent]),
                ffi.new("size_t[]", [len(data) for data, _ in lent]),
                ffi.new("int64_t[]", [number_told for _, number_told in lent]),
                applied,
                done,
            )
        )
        return AppliedMany(applied, count)

    def number_of(self, engine: Engine, model: str) -> int:
        """
        The number that the core knows an engine by, for `follow`; one that is not known is registered.

        Raises ConfigError for one that is recorded with another model.
        """
        return self._number(self._borrow(), engine, model)

    def follow(self, lanes: Any, count: int, burst: Any, now: float) -> Sequence[int]:
        """
        Apply what the core took off sockets, as far as it plainly follows what came before.

        `lanes` are `count` pointers to `kvs_lane`, and `burst` the `kvs_burst` that was received of them. Gives which
        lanes want a look, see `kvs_index_follow` in csrc/include/kvsync.h.
        """
        look = ffi.new("uint32_t[]", count)
        looks = lib.kvs_index_follow(self._borrow(), lanes, count, burst, now, look)
        return ffi.unpack(look, looks) if looks else ()

    def clear(self, engine: Engine, medium: str | None = None) -> None:
        """
        Note that the engine holds nothing now, on one medium or anywhere; its trust there is `exact` again.

        After clearing everything any next number continues. Does nothing for an engine or medium not known.
        """
        self._tell(lib.kvs_index_clear, engine, medium)

    def restart(self, engine: Engine) -> None:
        """
        Note that the engine began a new life: its record starts afresh and expects number 0.

        It is `partial` until number 0 has been applied. Does nothing for an engine not known.
        """
        core = self._borrow()
        number = self._numbers.get(engine)
        if number is not None:
            check(lib.kvs_index_restart(core, number))

    def confirm(self, engine: Engine) -> None:
        """
        Note that a loaded record is of the life that goes on: it is trusted again as it was when it was saved.

        Does nothing for an engine not known, or not loaded.
        """
        core = self._borrow()
        number = self._numbers.get(engine)
        if number is not None:
            check(lib.kvs_index_confirm(core, number))

    def doubt(self, engine: Engine, reason: str, medium: str | None = None) -> None:
        """
        Doubt all that the engine is known to hold, on one medium or anywhere: it turns `stale`.

        The record shows `reason`; a snapshot keeps only that there was one. Does nothing for an engine or medium not
        known.
        """
        if engine in self._numbers:
            before = {} if medium is None else self._told.get(engine, {})
            self._told[engine] = {"": reason, **before} | ({} if medium is None else {_upper(medium): reason})
        self._tell(lib.kvs_index_doubt, engine, medium)

    def _tell(self, call: Any, engine: Engine, medium: str | None) -> None:
        core = self._borrow()
        number = self._numbers.get(engine)
        if number is None:
            return
        if medium is None:
            check(call(core, number, ffi.NULL, 0))
            return
        name = utf8("medium", medium)
        status = call(core, number, ffi.from_buffer("char[]", name), len(name))
        if status != lib.KVS_ERR_ARGUMENT:  # a medium that it never named
            check(status)

    # ------------------------------------------------------------------ matching

    def match(
        self,
        tokens: Tokens,
        *,
        model: str,
        lora: str | None = None,
        cache_salt: str | None = None,
        extra_keys: ExtraKeys | None = None,
        engines: Iterable[Engine] | None = None,
    ) -> Mapping[Engine, Match]:
        """
        Count the leading blocks each engine holds; engines that hold none are absent.

        `tokens` is a list of ints or a buffer of uint32, which is not copied. `extra_keys` names images and the like:
        (identifier, first token, number of tokens). `engines` asks only these. Trust is not folded in:
        absent means "surely nothing" only for an exact engine.

        Raises TypeError or ValueError for tokens, texts or extra keys that cannot be what they should be.
        """
        core = self._borrow()
        only = None if engines is None else self._only(engines)
        query, _kept = lend_query(model, lora, cache_salt, extra_keys, only)
        lent, count = lend_tokens(tokens)
        found = _take_room()
        check(_match_tokens(core, query, lent, count, found))
        return self._matches(core, found)

    def match_many(
        self,
        prompts: Iterable[Tokens],
        *,
        model: str,
        lora: str | None = None,
        cache_salt: str | None = None,
        extra_keys: ExtraKeys | None = None,
        engines: Iterable[Engine] | None = None,
    ) -> list[Mapping[Engine, Match]]:
        """Match several prompts that share all else; each answer is of its own moment. Raises as `match`."""
        asked = None if engines is None else list(engines)
        return [
            self.match(tokens, model=model, lora=lora, cache_salt=cache_salt, extra_keys=extra_keys, engines=asked)
            for tokens in prompts
        ]

    def match_hashes(self, block_hashes: Any, *, engines: Iterable[Engine] | None = None) -> Mapping[Engine, Match]:
        """
        The same for block hashes made by `block_hashes` of this index, whatever the model.

        `block_hashes` is a buffer of uint64 or an iterable of ints. Raises as `match`.
        """
        core = self._borrow()
        hashes, count = lend_hashes(block_hashes)
        only = None if engines is None else self._only(engines)
        asked = ffi.NULL if only is None else ffi.new("uint32_t[]", only)
        found = _take_room()
        check(_match_hashes(core, hashes, count, asked, len(only or ()), found))
        return self._matches(core, found)

    def block_hashes(
        self,
        tokens: Tokens,
        *,
        model: str,
        lora: str | None = None,
        cache_salt: str | None = None,
        extra_keys: ExtraKeys | None = None,
        block_size: int,
    ) -> array[int]:
        """
        The block hash of each whole block of a prompt, as array('Q'): 64 bits each, under this index's seed.

        Raises ValueError for a block size outside 1 .. 2**20, and as `match`.
        """
        core = self._borrow()
        if not 1 <= block_size <= 2**20:
            raise ValueError(f"block_size is {block_size}: give 1 .. 1048576 tokens")
        names, _kept = lend_query(model, lora, cache_salt, extra_keys, None)
        query = ffi.new("kvs_query *", names[0])
        query.tokens, query.tokens_count = _lent, count = lend_tokens(tokens)
        hashes = array("Q", bytes(8 * (count // block_size)))
        check(lib.kvs_index_block_hashes(core, query, block_size, ffi.from_buffer("uint64_t[]", hashes)))
        return hashes

    def _only(self, engines: Iterable[Engine]) -> list[int]:
        asked = list(engines)
        for engine in asked:
            if not isinstance(engine, Engine):
                raise TypeError(f"engines holds {engine!r}: give Engine values")
        return [self._numbers[engine] for engine in asked if engine in self._numbers]

    def _matches(self, core: Any, found: Any) -> Matches:
        matches = found[0]
        _rooms.append(found)
        if not matches.rows_count:
            return NOBODY  # and the core's has nothing to free either
        return Matches(matches, self._engines, lambda medium: self._medium_name(core, medium))

    def _medium_name(self, core: Any, medium: int) -> str:
        if medium not in self._media:
            self._media[medium] = text(lib.kvs_index_medium_name(core, medium))
        return self._media[medium]

    # ------------------------------------------------------------------ looking

    def trust(self, engine: Engine, medium: str | None = None) -> Trust:
        """How far the engine's record may be believed: the worst over its media, or one's; `unknown` if never heard."""
        core = self._borrow()
        number = self._numbers.get(engine)
        if number is None:
            return Trust.UNKNOWN
        if medium is not None:
            known = self.record(engine).media.get(_upper(medium or GPU))
            return Trust.UNKNOWN if known is None else known.trust
        trust = ffi.new("uint8_t *")
        check(lib.kvs_index_trust(core, number, trust))
        return TRUST_BY_NUMBER[trust[0]]

    def adapters(self, engine: Engine) -> dict[str, int]:
        """
        The LoRA adapters that the engine's events named in its present life, the latest first; none without a record.

        Each with the number of the last such event, to compare with what `adapter_stores` was at some moment. Of very
        many the latest 256 are known, and of a record that was loaded those of events since.
        """
        core = self._borrow()
        number = self._numbers.get(engine)
        return {} if number is None else adapters_of(core, number)

    def adapter_engines(self, name: str) -> dict[Engine, int]:
        """The engines whose events named this adapter in their present life, with the number of the last such event."""
        core = self._borrow()
        found = engines_with(core, name, len(self._engines))
        return {engine: at for number, at in found.items() if (engine := self._engines[number]) in self._numbers}

    @property
    def adapter_stores(self) -> int:
        """How many events that named an adapter have been applied."""
        return int(lib.kvs_index_adapter_stores(self._borrow()))

    def record(self, engine: Engine) -> Record:
        """What is known of one engine. Raises KeyError if there is no record of it."""
        core = self._borrow()
        number = self._numbers[engine]
        status = ffi.new("kvs_engine_status *")
        check(lib.kvs_index_engine_status(core, number, status))
        media: dict[str, MediumRecord] = {}
        for nth in range(status.media_count):
            medium = ffi.new("kvs_medium_status *")
            check(lib.kvs_index_medium_status(core, number, nth, medium))
            name = self._medium_name(core, medium.medium)
            media[name] = MediumRecord(
                TRUST_BY_NUMBER[medium.trust],
                self._reason(engine, name, medium.reason),
                medium.entries,
                medium.doubtful,
                medium.since,
            )
        return Record(
            engine=engine,
            model=self._models[engine],
            trust=TRUST_BY_NUMBER[status.trust],
            media=media,
            sequence=None if status.sequence < 0 else status.sequence,
            lives=status.lives,
            block_size=status.block_size or None,
            dialect=DIALECT_BY_NUMBER[status.dialect],
            orphans=status.orphans,
            groups=status.groups_count,
            counters=dict(zip(COUNTER_NAMES, status.counters, strict=True)),
            lag=Lag(tuple(status.lag.counts), status.lag.seconds, status.lag.ahead, status.lag.last),
        )

    def _reason(self, engine: Engine, medium: str, reason: int) -> str:
        told = self._told.get(engine) if reason == lib.KVS_REASON_TOLD else None
        return text(lib.kvs_reason_text(reason)) if told is None else told.get(medium, told[""])

    def engine_hashes(self, engine: Engine) -> dict[str, dict[int, dict[EngineHash, int]]]:
        """
        Everything the engine is known to hold: medium -> group -> engine hash -> copies.

        Integer hashes are unsigned. Empty for an engine not known. Doubtful entries are listed too.
        """
        core = self._borrow()
        number = self._numbers.get(engine)
        if number is None:
            return {}
        made = ffi.new("kvs_export **")
        check(lib.kvs_index_export(core, number, made))
        listing = ffi.gc(made[0], lib.kvs_export_free)
        held: dict[str, dict[int, dict[EngineHash, int]]] = {}
        for i in range(listing.rows_count):
            row = listing.rows[i]
            engine_hash = ffi.buffer(listing.bytes + row.hash, row.hash_bytes)[:] if row.hash_bytes else int(row.hash)
            medium = held.setdefault(self._medium_name(core, row.medium), {})
            medium.setdefault(row.group, {})[engine_hash] = row.copies
        return held

    def stats(self) -> IndexStats:
        """Sizes of the whole index, as of one moment."""
        stats = ffi.new("kvs_stats *")
        lib.kvs_index_stats(self._borrow(), stats)
        return read_stats(stats)
