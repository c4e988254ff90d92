"""Loaded records: which of them go on, and which go."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from kvsync.index import Index
from kvsync.serve.snapshots.inherited import Claim, Inherited
from kvsync.stream.endpoints import Source
from kvsync.types import Bookmark, Engine

A, B, C = (Engine(name) for name in "abc")
MARK = Bookmark(3, b"digest!!")


def source(engine: Engine, model: str = "m") -> Source:
    """An engine as it is configured now."""
    return Source(engine, model, "tcp://127.0.0.1:1")


@pytest.fixture
def index() -> Index:
    """Three records of model m."""
    made = Index(seed=1)
    for engine in (A, B, C):
        made.register(engine, model="m")
    return made


def test_an_engine_goes_on_from_its_bookmark(index: Index) -> None:
    """Once: one that is removed and comes again begins anew."""
    with index:
        inherited = Inherited("snapshot", 1.0, 3, {A: MARK}, {A, B, C})
        assert inherited.claim(source(A), index) == Claim(MARK)
        assert inherited.claim(source(A), index) == Claim()
        assert index.engines() == [A, B, C]
        assert (inherited.resumed, inherited.dropped) == (1, 0)


def test_a_record_that_was_not_exact_is_not_whole(index: Index) -> None:
    """What was owed when it was saved is owed still; of one that begins anew nothing is."""
    with index:
        inherited = Inherited("snapshot", 1.0, 3, {A: MARK, C: MARK}, {A, B, C}, doubtful={A, B})
        claims = [inherited.claim(source(engine), index) for engine in (A, B, C)]
        assert claims == [Claim(MARK, is_whole=False), Claim(), Claim(MARK)]


@pytest.mark.parametrize(("model", "marks"), [("other", {A: MARK}), ("m", {})])
def test_what_cannot_go_on_is_dropped(model: str, marks: dict[Engine, Bookmark], index: Index) -> None:
    """Another model, or no batch to compare: the record goes, and the engine begins anew."""
    with index:
        inherited = Inherited("snapshot", 1.0, 3, dict(marks), {A, B, C})
        assert inherited.claim(source(A, model), index) == Claim()
        assert index.engines() == [B, C]
        assert inherited.dropped == 1


def test_records_without_an_engine_are_dropped(index: Index) -> None:
    """What nobody has claimed goes; engines that were never loaded are none of its business."""
    with index:
        inherited = Inherited("snapshot", 1.0, 3, {A: MARK, B: MARK}, {A, B})
        inherited.claim(source(A), index)
        inherited.drop_unclaimed(index)
        inherited.drop_unclaimed(index)
        assert index.engines() == [A, C]
        assert inherited.view() == {"origin": "snapshot", "taken": 1.0, "loaded": 3, "resumed": 1, "dropped": 1}


def test_what_waits_is_saved_with_its_bookmark(index: Index) -> None:
    """Until an engine is claimed its stream cannot say where it was; from then on nobody else can."""
    with index:
        inherited = Inherited("snapshot", 1.0, 3, {A: MARK, B: MARK}, {A, B})
        now = Bookmark(9, b"livelive")
        hold = inherited.holding(lambda _engine: nullcontext(now))
        with hold(A) as first, hold(C) as other:
            assert (first, other) == (MARK, now)
        inherited.claim(source(A), index)
        with hold(A) as later, hold(B) as waiting:
            assert (later, waiting) == (now, MARK)
