"""
Warm tokenizer backends: the few that were asked for last stay loaded.

Who runs: any thread may call anything. `_lock` guards all that changes, and nothing slow happens under it: backends are
built and closed by the thread that caused it, after the decision was made under the lock.

What changes:
- `_entries`, key -> CachedBackend, least recent first. It alone says what is served and what is evicted: embedding code
  may write to it under `_lock`, and what stands there needs no record elsewhere.
- `_flights`, one per key that is being built. Who finds one waits for its end; whoever waits for a build that fails
  tries again, one at a time.
- `_leases`, counts of those in use, by identity. An entry that leaves `_entries` while leased is closed by the end of
  its last lease. One without a lease has no record here.
"""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic
from typing import Any

from kvsync.tokens.model import ModelSpec

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class CachedBackend:
    """A loaded backend, what it was loaded for, and how long that took."""

    key: Hashable
    backend: Any
    model_spec: ModelSpec
    load_seconds: float


@dataclass(frozen=True, slots=True)
class CacheStats:
    """
    What a cache did so far: `waits` were for another thread's build, `failures` are builds that raised.
    """

    hits: int = 0
    misses: int = 0
    waits: int = 0
    failures: int = 0
    evictions: int = 0
    close_failures: int = 0


@dataclass(slots=True, eq=False)
class _Flight:
    """A build that is under way; `leases` are those of who waits for it to hold its entry."""

    builder: int = field(default_factory=threading.get_ident)
    done: threading.Event = field(default_factory=threading.Event)
    leases: int = 0
    entry: CachedBackend | None = None


@dataclass(slots=True, eq=False)
class _Lease:
    """How many hold an entry; `retired` once it is to be closed by the last of them."""

    entry: CachedBackend
    count: int
    retired: bool = False


def cache_key_for(spec: ModelSpec) -> Hashable:
    """What a spec's backend is found by: two specs with one key are served by one backend."""
    return spec.identity


def _build_entry(spec: ModelSpec, *, key: Hashable, adapter_path: Path | str | None) -> CachedBackend:
    """Load a backend. Raises what loading raises: `ConfigError` where the operator can mend it."""
    # Not at the top: the libraries behind backends are large, and each is an extra.
    from kvsync.tokens.backends import open_backend

    started = monotonic()
    backend = open_backend(spec, adapter=Path(adapter_path) if adapter_path is not None else spec.adapter)
    return CachedBackend(key=key, backend=backend, model_spec=spec, load_seconds=monotonic() - started)


class BackendCache:
    """
    At most `max_size` loaded backends, and those that are leased beyond that; thread-safe.
    """

    def __init__(self, max_size: int = 2) -> None:
        if max_size < 1:
            raise ValueError(f"max_size must be >= 1, not {max_size}")
        self._max_size = max_size
        self._lock = threading.RLock()
        self._entries: OrderedDict[Hashable, CachedBackend] = OrderedDict()
        self._flights: dict[Hashable, _Flight] = {}
        self._leases: dict[int, _Lease] = {}
        self._counts = dict.fromkeys(CacheStats.__slots__, 0)

    def __repr__(self) -> str:
        with self._lock:
            return f"<BackendCache {len(self._entries)}/{self._max_size} building={len(self._flights)}>"

    @property
    def max_size(self) -> int:
        """How many backends stay loaded without being in use."""
        return self._max_size

    @staticmethod
    def cache_key_for(spec: ModelSpec) -> Hashable:
        """What a spec's backend is found by: over what it is made of, not over who may run code."""
        return cache_key_for(spec)

    def get_or_load(self, spec: ModelSpec, *, adapter_path: Path | str | None = None) -> CachedBackend:
        """
        Give the spec's backend, loading it if it is not there; it is the most recent one from now on.

        Threads that ask for one key wait for one load. A load that fails raises in the thread that made it, and the
        next who waits tries again. `adapter_path` says where the adapter's files are, if not at the spec's own place;
        it is no part of the key.
        """
        return self._get(spec, adapter_path, leases=0)

    @contextmanager
    def lease(self, spec: ModelSpec, *, adapter_path: Path | str | None = None) -> Iterator[CachedBackend]:
        """The same, for as long as the context lasts: evicted meanwhile, it is closed at the end of the last lease."""
        entry = self._get(spec, adapter_path, leases=1)
        try:
            yield entry
        finally:
            self._release(entry)

    def evict_all(self) -> None:
        """Forget every loaded backend and close it; leased ones at the end of their last lease."""
        with self._lock:
            closing = self._retire(list(self._entries))
        self._close(closing)

    def loaded_keys(self) -> list[Hashable]:
        """The keys of loaded backends, the most recent last."""
        with self._lock:
            return list(self._entries)

    def loaded_specs(self) -> list[ModelSpec]:
        """The specs of loaded backends, the most recent last."""
        return [entry.model_spec for entry in self.loaded()]

    def loaded(self) -> list[CachedBackend]:
        """The loaded backends, the most recent last; looking at them makes none more recent."""
        with self._lock:
            return list(self._entries.values())

    def stats(self) -> CacheStats:
        """What was done so far."""
        with self._lock:
            return CacheStats(**self._counts)

    def _get(self, spec: ModelSpec, adapter_path: Path | str | None, *, leases: int) -> CachedBackend:
        key = self.cache_key_for(spec)
        while True:
            found, is_ours = self._find_or_begin(key, spec, leases)
            if not isinstance(found, _Flight):
                return found
            if is_ours:
                return self._build(spec, key, adapter_path, found, leases)
            entry = self._wait(found, leases)
            if entry is not None:
                return entry

    def _find_or_begin(self, key: Hashable, spec: ModelSpec, leases: int) -> tuple[CachedBackend | _Flight, bool]:
        """The entry; or the build to wait for; or, with True, the build to make."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
                self._counts["hits"] += 1
                self._hold(entry, leases)
                return entry, False
            flight = self._flights.get(key)
            if flight is None:
                self._counts["misses"] += 1
                flight = self._flights[key] = _Flight()
                return flight, True
            if flight.builder == threading.get_ident():
                raise RuntimeError(f"building the backend of {spec.base!r} asks for that same backend")
            flight.leases += leases
            self._counts["waits"] += 1
            return flight, False

    def _wait(self, flight: _Flight, leases: int) -> CachedBackend | None:
        """The entry that another thread builds; None if it fails. Who is interrupted holds no lease."""
        try:
            flight.done.wait()
        except BaseException:
            with self._lock:
                if not flight.done.is_set():
                    flight.leases -= leases
                    leases = 0
            if flight.entry is not None and leases:
                self._release(flight.entry)
            raise
        return flight.entry

    def _build(
        self, spec: ModelSpec, key: Hashable, adapter_path: Path | str | None, flight: _Flight, leases: int
    ) -> CachedBackend:
        """Build what `flight` stands for, and end it whatever comes."""
        closing: list[CachedBackend] = []
        try:
            built = _build_entry(spec, key=key, adapter_path=adapter_path)
            with self._lock:
                closing = self._enter(key, built, flight, leases)
        finally:
            with self._lock:
                self._counts["failures"] += flight.entry is None
                del self._flights[key]
                flight.done.set()
            self._close(closing)
        assert flight.entry is not None
        return flight.entry

    def _enter(self, key: Hashable, built: CachedBackend, flight: _Flight, leases: int) -> list[CachedBackend]:
        """Put a built entry in its place; gives those that are to be closed. The lock is held."""
        closing = []
        if key in self._entries:  # written there meanwhile: another's may be in use, then ours is not
            if self._entries[key] is not built:
                closing.append(built)
            self._entries.move_to_end(key)
        else:
            self._entries[key] = built
        flight.entry = self._entries[key]
        self._hold(flight.entry, leases + flight.leases)
        surplus = len(self._entries) - self._max_size
        oldest = list(self._entries)[: max(surplus, 0)]
        self._counts["evictions"] += len(oldest)
        return closing + self._retire(oldest)

    def _hold(self, entry: CachedBackend, leases: int) -> None:
        if not leases:
            return
        lease = self._leases.get(id(entry))
        if lease is None:
            self._leases[id(entry)] = _Lease(entry, leases)
        else:
            lease.count += leases

    def _release(self, entry: CachedBackend) -> None:
        with self._lock:
            lease = self._leases[id(entry)]
            lease.count -= 1
            if lease.count:
                return
            del self._leases[id(entry)]
            # Put back by embedding code, it is served again, and closed by its next eviction.
            is_over = lease.retired and not any(one is entry for one in self._entries.values())
        if is_over:
            self._close([entry])

    def _retire(self, keys: Iterable[Hashable]) -> list[CachedBackend]:
        """Take entries out; gives those that nobody holds. The lock is held."""
        closing = []
        for key in keys:
            entry = self._entries.pop(key)
            lease = self._leases.get(id(entry))
            if lease is None:
                closing.append(entry)
            else:
                lease.retired = True
        return closing

    def _close(self, entries: Sequence[CachedBackend]) -> None:
        """Close all of them in order, also where one is interrupted."""
        with ExitStack() as closing:
            for entry in reversed(entries):
                closing.callback(self._close_one, entry)

    def _close_one(self, entry: CachedBackend) -> None:
        try:
            entry.backend.close()
        except Exception as error:
            with self._lock:
                self._counts["close_failures"] += 1
            _logger.warning(
                "the tokenizer backend of %s: close raised %r; it is forgotten all the same",
                entry.key,
                error,
                exc_info=True,
            )
