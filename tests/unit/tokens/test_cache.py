"""The cache of warm tokenizer backends: each sentence of its contract, and what threads may do to it."""

from __future__ import annotations

import logging
import random
import threading
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from tests.patience import PATIENCE_S

from kvsync.tokens import cache as cache_module
from kvsync.tokens.cache import BackendCache, CachedBackend, cache_key_for
from kvsync.tokens.model import ModelSpec

THREADS = 64
WAIT_S = PATIENCE_S
SEED = 20_261_124

A, B, C = (ModelSpec(base=name, kind="dummy") for name in "abc")


class Backend:
    """A backend that counts its closes."""

    def __init__(self, failure: BaseException | None = None) -> None:
        self.closes = 0
        self._failure = failure

    def close(self) -> None:
        """Count, and fail if told to."""
        self.closes += 1
        if self._failure is not None:
            raise self._failure


class Builds:
    """Stands in for `_build_entry`: remembers what was built, and does what it is told to first."""

    def __init__(self) -> None:
        self.made: list[CachedBackend] = []
        self.adapters: list[object] = []
        self.first: Callable[[ModelSpec], object] = lambda _spec: None

    def __call__(self, spec: ModelSpec, *, key: Hashable, adapter_path: Path | str | None) -> CachedBackend:
        """What the cache calls."""
        self.first(spec)
        self.adapters.append(adapter_path)
        made = entry(spec, key=key)
        self.made.append(made)
        return made


def entry(spec: ModelSpec, *, key: Hashable = None, backend: Backend | None = None) -> CachedBackend:
    """A loaded backend, as embedding code would make one."""
    key = cache_key_for(spec) if key is None else key
    return CachedBackend(key=key, backend=backend or Backend(), model_spec=spec, load_seconds=0.0)


def put(cache: BackendCache, *entries: CachedBackend) -> None:
    """Write entries into the cache as embedding code does."""
    with cache._lock:
        for one in entries:
            cache._entries[one.key] = one


@contextmanager
def threads(count: int = THREADS) -> Iterator[ThreadPoolExecutor]:
    """As many threads as asked for, all gone afterwards."""
    with ThreadPoolExecutor(count) as pool:
        yield pool


@pytest.fixture
def builds(monkeypatch: pytest.MonkeyPatch) -> Builds:
    """Builds without loading anything."""
    made = Builds()
    monkeypatch.setattr(cache_module, "_build_entry", made)
    return made


@pytest.mark.parametrize("size", [0, -1])
def test_a_size_below_one_is_refused(size: int) -> None:
    """A cache for nothing is a mistake."""
    with pytest.raises(ValueError, match="max_size must be >= 1"):
        BackendCache(max_size=size)


def test_the_size_is_two_by_default_and_read_only() -> None:
    """The size can be read and not set."""
    cache = BackendCache()
    assert cache.max_size == 2
    with pytest.raises(AttributeError):
        cache.max_size = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "other",
    [
        {"base": "n"},
        {"kind": "dummy"},
        {"adapter": "/a"},
        {"revision": "r"},
        {"chat_template": "/t"},
        {"pattern": "p"},
        {"endpoints": ("http://127.0.0.1:1",)},
    ],
)
def test_a_key_differs_on_what_a_backend_is_made_of(other: dict[str, object]) -> None:
    """Base, kind, adapter, revision and all else that changes ids make another key; every key is hashable."""
    spec, changed = ModelSpec(base="m"), ModelSpec.model_validate({"base": "m", **other})
    assert BackendCache.cache_key_for(spec) != BackendCache.cache_key_for(changed)
    assert len({BackendCache().cache_key_for(spec), cache_key_for(changed)}) == 2


def test_a_key_ignores_leave_to_run_code() -> None:
    """Trusting remote code is no identity."""
    trusting = ModelSpec(base="m", trust_remote_code=True)
    assert BackendCache.cache_key_for(ModelSpec(base="m")) == BackendCache.cache_key_for(trusting)


def test_a_cached_backend_is_a_frozen_record_with_keywords() -> None:
    """An entry is made by keywords and does not change."""
    made = entry(A)
    with pytest.raises(FrozenInstanceError):
        made.load_seconds = 1.0  # type: ignore[misc]
    with pytest.raises(TypeError):
        CachedBackend("key", Backend(), A, 0.0)  # type: ignore[call-arg]


def test_a_miss_builds_and_a_hit_does_not(builds: Builds) -> None:
    """The second call gets the first one's object."""
    cache = BackendCache()
    first = cache.get_or_load(A, adapter_path="/somewhere")
    assert cache.get_or_load(A) is first
    assert (builds.made, builds.adapters) == ([first], ["/somewhere"])
    assert first.key == cache.cache_key_for(A)


def test_build_entry_is_looked_up_at_call_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache that was made before the function was replaced calls the new one."""
    cache = BackendCache()
    replaced = Builds()
    monkeypatch.setattr(cache_module, "_build_entry", replaced)
    assert cache.get_or_load(A) is replaced.made[0]


def test_build_entry_makes_a_backend_that_works() -> None:
    """Without a stand-in, a dummy spec yields a backend that turns text into ids."""
    made = BackendCache().get_or_load(A)
    assert list(made.backend.encode("hi")) == [104, 105]
    assert (made.model_spec, made.load_seconds >= 0) == (A, True)


def test_a_hit_becomes_the_most_recent(builds: Builds) -> None:
    """Keys and specs are listed with the most recent last, and the least recent is what goes."""
    cache = BackendCache(max_size=2)
    a, b = cache.get_or_load(A), cache.get_or_load(B)
    cache.get_or_load(A)
    assert (cache.loaded_keys(), cache.loaded_specs()) == ([b.key, a.key], [B, A])
    cache.get_or_load(C)
    assert cache.loaded_specs() == [A, C]
    assert (b.backend.closes, a.backend.closes) == (1, 0)


def test_a_close_that_fails_is_logged_and_swallowed(builds: Builds, caplog: pytest.LogCaptureFixture) -> None:
    """Eviction goes on, with a warning that names the failure."""
    cache = BackendCache(max_size=1)
    bad = Backend(OSError("device gone"))
    put(cache, entry(A, backend=bad))
    with caplog.at_level(logging.WARNING):
        assert cache.get_or_load(B) is builds.made[0]
    record = next(record for record in caplog.records if "close raised" in record.getMessage())
    assert (record.levelname, "device gone" in record.getMessage()) == ("WARNING", True)
    assert (bad.closes, cache.stats().close_failures, cache.loaded_specs()) == (1, 1, [B])


def test_an_entry_that_others_wrote_is_logged_by_its_key(caplog: pytest.LogCaptureFixture) -> None:
    """What embedding code puts there need not carry a whole spec for its failing close to be survived."""
    cache, bad = BackendCache(), Backend(OSError("device gone"))
    put(cache, replace(entry(A, backend=bad), model_spec=cast(ModelSpec, None)))
    with caplog.at_level(logging.WARNING):
        cache.evict_all()
    assert ("close raised" in caplog.text, bad.closes, cache.loaded_keys()) == (True, 1, [])


def test_evict_all_closes_every_backend_once(builds: Builds) -> None:
    """Afterwards nothing is loaded, also where a close fails, and a second call closes nothing."""
    cache = BackendCache(max_size=3)
    entries = [entry(A, backend=Backend(RuntimeError())), entry(B), entry(C)]
    put(cache, *entries)
    cache.evict_all()
    cache.evict_all()
    assert ([one.backend.closes for one in entries], cache.loaded_keys()) == ([1, 1, 1], [])
    cache.get_or_load(A)
    assert len(builds.made) == 1


def test_an_interrupted_close_leaves_no_other_open() -> None:
    """What no handler swallows comes out of the call, after every backend was closed."""
    cache = BackendCache(max_size=3)
    entries = [entry(A, backend=Backend(KeyboardInterrupt())), entry(B), entry(C)]
    put(cache, *entries)
    with pytest.raises(KeyboardInterrupt):
        cache.evict_all()
    assert [one.backend.closes for one in entries] == [1, 1, 1]


def test_an_entry_written_from_outside_is_served_leased_evicted_and_closed(builds: Builds) -> None:
    """What stands in `_entries` needs no record elsewhere."""
    cache = BackendCache(max_size=1)
    written = entry(A)
    put(cache, written)
    assert cache.get_or_load(A) is written
    with cache.lease(A) as leased:
        assert leased is written
        cache.get_or_load(B)
        assert written.backend.closes == 0
    assert (written.backend.closes, len(builds.made)) == (1, 1)


def test_too_many_entries_from_outside_are_evicted_down_to_the_size(builds: Builds) -> None:
    """A miss brings an overfull cache back to its size, least recent first."""
    cache = BackendCache(max_size=2)
    a, b = entry(A), entry(B)
    extra = entry(ModelSpec(base="d", kind="dummy"))
    put(cache, a, b, extra)
    cache.get_or_load(C)
    assert cache.loaded_specs() == [extra.model_spec, C]
    assert (a.backend.closes, b.backend.closes, extra.backend.closes) == (1, 1, 0)


def test_an_entry_written_while_its_key_is_built_is_kept(builds: Builds) -> None:
    """Theirs may be in use already; the one just built is closed, and nobody gets it."""
    cache = BackendCache()
    theirs = entry(A)
    builds.first = lambda _spec: put(cache, theirs)
    assert cache.get_or_load(A) is theirs
    assert (builds.made[0].backend.closes, theirs.backend.closes) == (1, 0)


def test_an_entry_that_its_own_build_wrote_is_not_closed(builds: Builds, monkeypatch: pytest.MonkeyPatch) -> None:
    """A build that puts its entry in place itself, and gives it, has it served and open."""
    cache = BackendCache()
    written = entry(A)

    def build(spec: ModelSpec, *, key: Hashable, adapter_path: Path | str | None) -> CachedBackend:
        put(cache, written)
        return written

    monkeypatch.setattr(cache_module, "_build_entry", build)
    assert cache.get_or_load(A) is written
    assert written.backend.closes == 0


def test_an_entry_of_another_type_is_served_leased_and_closed(builds: Builds) -> None:
    """Embedding code may put any record with the fields of an entry."""
    cache = BackendCache(max_size=1)
    record: Any = SimpleNamespace(key=cache_key_for(A), backend=Backend(), model_spec=object(), load_seconds=0.0)
    put(cache, record)
    assert cache.get_or_load(A) is record
    with cache.lease(A) as leased:
        assert (leased, cache.loaded_specs()) == (record, [record.model_spec])
        cache.get_or_load(B)
        assert record.backend.closes == 0
    assert record.backend.closes == 1


def test_an_entry_put_back_under_its_lease_is_served_and_closed_once(builds: Builds) -> None:
    """Evicted while leased and written there again, it outlives the lease, and its next eviction closes it."""
    cache = BackendCache()
    with cache.lease(A) as leased:
        cache.evict_all()
        put(cache, leased)
    assert (leased.backend.closes, cache.get_or_load(A)) == (0, leased)
    cache.evict_all()
    assert (leased.backend.closes, cache._leases) == (1, {})


def test_a_failed_build_is_not_cached(builds: Builds) -> None:
    """The error reaches the caller, and the next call builds again."""
    cache = BackendCache()

    def fail(_spec: ModelSpec) -> None:
        raise OSError("no such file")

    builds.first = fail
    with pytest.raises(OSError, match="no such file"):
        cache.get_or_load(A)
    assert (cache.loaded_keys(), cache._flights) == ([], {})
    builds.first = lambda _spec: None
    assert cache.get_or_load(A) is builds.made[0]
    assert cache.stats().failures == 1


def test_many_threads_share_one_build(builds: Builds) -> None:
    """64 threads that ask at once get one object from one build, whatever is evicted meanwhile."""
    cache = BackendCache(max_size=1)
    gate = threading.Event()
    builds.first = lambda _spec: None if gate.wait(WAIT_S) else pytest.fail("the gate stayed shut")
    with threads() as pool:
        asked = [pool.submit(cache.get_or_load, A) for _ in range(THREADS)]
        wait_until(lambda: cache.stats().waits == THREADS - 1)
        gate.set()
        got = {id(one.result(WAIT_S)) for one in asked}
    assert (len(got), len(builds.made), cache._flights, cache._leases) == (1, 1, {}, {})


def test_different_keys_are_built_in_parallel(builds: Builds) -> None:
    """Two builds are under way at the same time, each waiting for the other."""
    cache = BackendCache(max_size=2)
    both = threading.Barrier(2)
    builds.first = lambda _spec: both.wait(WAIT_S)
    with threads(2) as pool:
        results = [pool.submit(cache.get_or_load, spec) for spec in (A, B)]
        assert {one.result(WAIT_S).model_spec for one in results} == {A, B}


def test_nothing_is_held_while_building_or_closing(builds: Builds) -> None:
    """During a build and a close, another thread can take the lock, hit, and list."""
    cache = BackendCache(max_size=1)
    seen: list[str] = []

    def look(what: str) -> None:
        with threads(1) as pool:
            assert pool.submit(cache.loaded_specs).result(WAIT_S) is not None
            assert pool.submit(cache._lock.acquire, timeout=WAIT_S).result(WAIT_S)
            pool.submit(cache._lock.release).result(WAIT_S)
        seen.append(what)

    class Looking(Backend):
        def close(self) -> None:
            look("close")

    put(cache, entry(A, backend=Looking()))
    builds.first = lambda _spec: look("build")
    cache.get_or_load(B)
    assert seen == ["build", "close"]


def test_after_a_failed_build_the_next_who_waits_tries_again(builds: Builds) -> None:
    """63 failures and one success: each thread that built and failed raises, all others get the one object."""
    cache = BackendCache()
    gate, failures = threading.Event(), iter(range(5))

    def fail_five(_spec: ModelSpec) -> None:
        assert gate.wait(WAIT_S)
        for number in failures:
            raise OSError(f"failure {number}")

    builds.first = fail_five
    with threads() as pool:
        asked = [pool.submit(cache.get_or_load, A) for _ in range(THREADS)]
        wait_until(lambda: cache.stats().waits == THREADS - 1)
        gate.set()
        errors = [one.exception(WAIT_S) for one in asked]
    failed = sorted(str(error) for error in errors if error is not None)
    assert failed == [f"failure {number}" for number in range(5)]
    assert len({id(one.result()) for one, error in zip(asked, errors, strict=True) if error is None}) == 1
    assert (len(builds.made), cache.stats().failures, cache._flights) == (1, 5, {})


def test_a_build_that_asks_for_itself_is_told_instead_of_waiting_for_ever(builds: Builds) -> None:
    """A thread never waits for its own build."""
    cache = BackendCache()
    builds.first = lambda spec: cache.get_or_load(spec)
    with pytest.raises(RuntimeError, match="asks for that same backend"):
        cache.get_or_load(A)
    assert cache._flights == {}


def test_an_interrupted_build_leaves_nothing_behind(builds: Builds) -> None:
    """Ctrl-C during a build ends it for all; the next call builds."""
    cache = BackendCache()

    def interrupt(_spec: ModelSpec) -> None:
        raise KeyboardInterrupt

    builds.first = interrupt
    with pytest.raises(KeyboardInterrupt):
        cache.get_or_load(A)
    builds.first = lambda _spec: None
    assert cache.get_or_load(A) is builds.made[0]


def test_an_entry_in_use_is_closed_by_its_last_lease(builds: Builds) -> None:
    """Evicted under two leases, it is closed once, at the end of the second; its key is free for a new build."""
    cache = BackendCache(max_size=1)
    with cache.lease(A) as outer:
        with cache.lease(A) as inner:
            assert inner is outer
            cache.evict_all()
            assert cache.get_or_load(A) is not outer
        assert outer.backend.closes == 0
    assert (outer.backend.closes, cache._leases) == (1, {})


def test_a_lease_that_ends_leaves_a_loaded_entry_open(builds: Builds) -> None:
    """Without an eviction the end of a lease closes nothing, also when the block raises."""
    cache = BackendCache()
    with pytest.raises(ValueError, match="mine"), cache.lease(A):
        raise ValueError("mine")
    assert (builds.made[0].backend.closes, cache.loaded_specs(), cache._leases) == (0, [A], {})


def test_who_waits_for_a_build_holds_its_lease_from_the_first_moment(builds: Builds) -> None:
    """Evicted at the very end of its build, an entry stays open until all who waited for it are done."""
    cache = BackendCache(max_size=1)
    gate, used, done = threading.Event(), threading.Barrier(THREADS + 1), threading.Event()
    builds.first = lambda spec: None if spec is B or gate.wait(WAIT_S) else pytest.fail("the gate stayed shut")

    def use() -> int:
        with cache.lease(A) as leased:
            used.wait(WAIT_S)
            assert done.wait(WAIT_S)
            return int(leased.backend.closes)

    with threads() as pool:
        asked = [pool.submit(use) for _ in range(THREADS)]
        wait_until(lambda: cache.stats().waits == THREADS - 1)
        gate.set()
        used.wait(WAIT_S)
        cache.get_or_load(B)
        done.set()
        assert {one.result(WAIT_S) for one in asked} == {0}
    assert (builds.made[0].backend.closes, cache._leases) == (1, {})


@pytest.mark.parametrize("size", [1, 3])
def test_a_storm_of_threads_neither_leaks_nor_closes_twice(builds: Builds, size: int) -> None:
    """64 threads lease, load and evict over eight keys with failing builds: at the end every backend closed once."""
    cache = BackendCache(max_size=size)
    specs = [ModelSpec(base=str(number), kind="dummy") for number in range(8)]
    building, running, chance = Counter[str](), threading.Lock(), random.Random(SEED)

    def build(spec: ModelSpec) -> None:
        with running:
            building[spec.base] += 1
            assert building[spec.base] == 1, "two builds of one key at a time"
            fails = chance.random() < 0.3
        threading.Event().wait(0.0005)
        with running:
            building[spec.base] -= 1
        if fails:
            raise OSError("build failed")

    builds.first = build
    begin = threading.Barrier(THREADS)

    def work(number: int) -> None:
        mine = random.Random(SEED + number)
        begin.wait(WAIT_S)
        for _ in range(20):
            spec = mine.choice(specs)
            try:
                if mine.random() < 0.7:
                    with cache.lease(spec) as leased:
                        assert leased.model_spec == spec
                        assert leased.backend.closes == 0, "closed while leased"
                else:
                    assert cache.get_or_load(spec).model_spec == spec
            except OSError:
                pass
            if mine.random() < 0.02:
                cache.evict_all()

    with threads() as pool:
        for one in [pool.submit(work, number) for number in range(THREADS)]:
            one.result(WAIT_S)
    assert (cache._flights, cache._leases, len(cache.loaded_keys()) <= size) == ({}, {}, True)
    cache.evict_all()
    assert {made.backend.closes for made in builds.made} == {1}


def wait_until(holds: Callable[[], Any]) -> None:
    """Wait until other threads have come where the test needs them."""
    pause = threading.Event()
    for _ in range(int(WAIT_S * 1000)):
        if holds():
            return
        pause.wait(0.001)
    pytest.fail("the threads did not get there")
