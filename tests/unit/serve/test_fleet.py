"""What becomes of a fleet's changes, over streams that only pretend."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from tests.integration.serve_helpers import MadeUpStreams, make_pod

from kvsync.errors import CapacityError
from kvsync.fleet import Finding, Pod, PodChange, StaticPods
from kvsync.index import Index
from kvsync.routing import BUILT_IN, Router
from kvsync.serve import fleet
from kvsync.serve.parts import Parts
from kvsync.serve.roster import Learned
from kvsync.serve.settings import Settings
from kvsync.stream.endpoints import Source
from kvsync.types import Bookmark, Engine

A = Engine("a")
LISTS = Learned(("m",), ("sql",))
ODD = Finding("models", "a", "odd_name", "its list is odd")


@dataclass(slots=True)
class FewStreams(MadeUpStreams):
    """As many as there is room for."""

    room: int = 1
    tries: list[Engine] = field(default_factory=list)

    def add(self, source: Source, bookmark: Bookmark | None = None, *, is_whole: bool = True) -> None:
        """Begin with a connected stream, or refuse to."""
        self.tries.append(source.engine)
        if len(self.sources) >= self.room:
            raise CapacityError("one too many: raise engines_max")
        MadeUpStreams.add(self, source, bookmark, is_whole=is_whole)


@pytest.fixture
def streams() -> FewStreams:
    """Room for one."""
    return FewStreams()


@pytest.fixture
def parts(streams: FewStreams) -> Iterator[Parts]:
    """A daemon without pods."""
    with Index(seed=1) as index:
        yield Parts(Settings(), index, streams, Router(dict(BUILT_IN)), clock=lambda: 0.0)


def come(parts: Parts, pod: Pod) -> Pod:
    """The pod comes, or is described anew."""
    fleet.apply(parts, PodChange(pod.name, parts.roster.described.get(pod.name), pod))
    return pod


def go(parts: Parts, name: str) -> None:
    """The pod goes."""
    fleet.apply(parts, PodChange(name, parts.roster.described[name], None))


def reasons(parts: Parts) -> list[tuple[str, str]]:
    """What is told."""
    return [(finding.about, finding.reason) for finding in parts.roster.findings()]


def test_an_engine_that_is_refused_stays_told_and_is_tried_again(parts: Parts, streams: FewStreams) -> None:
    """Whatever else is said of its pod meanwhile; it is followed once there is room."""
    come(parts, make_pod("a"))
    b = come(parts, make_pod("b"))
    assert reasons(parts) == [("b/0", "not_followed")]
    come(parts, replace(b, ready=False))
    fleet.retry(parts)
    assert reasons(parts) == [("b/0", "not_followed")]
    go(parts, "a")
    fleet.retry(parts)
    assert reasons(parts) == []
    assert set(streams.sources) == {Engine("b")}
    assert streams.tries == [A, Engine("b"), Engine("b"), Engine("b")]
    fleet.retry(parts)
    assert len(streams.tries) == 4


def test_an_engine_that_is_refused_and_goes_is_forgotten(parts: Parts, streams: FewStreams) -> None:
    """With what was told of it."""
    come(parts, make_pod("a"))
    come(parts, make_pod("b"))
    go(parts, "b")
    assert (reasons(parts), set(parts.pods)) == ([], {"a"})
    come(parts, make_pod("c", ranks=2, events="tcp://127.0.0.1:90"))
    come(parts, make_pod("c", ranks=1, events="tcp://127.0.0.1:90"))
    assert reasons(parts) == [("c/0", "not_followed")]
    fleet.retry(parts)
    assert set(streams.sources) == {A}


def test_who_follows_tries_again_by_itself(parts: Parts, streams: FewStreams, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has to happen to the fleet for that."""
    monkeypatch.setattr(fleet, "RETRY_S", 0.001)

    async def story() -> None:
        task = asyncio.create_task(fleet.follow(parts, StaticPods([make_pod("a"), make_pod("b")])))
        while len(streams.tries) < 5:  # noqa: ASYNC110  (it is the loop that is waited for)
            await asyncio.sleep(0)
        streams.room = 2
        while parts.roster.refused:  # noqa: ASYNC110
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(story())
    assert set(streams.sources) == {A, Engine("b")}


def test_what_a_pod_lists_completes_it(parts: Parts) -> None:
    """And what is odd about it is told, until it lists better."""
    pod = come(parts, make_pod("a"))
    fleet.learn(parts, pod, LISTS, ODD)
    assert (parts.pods["a"].loras, reasons(parts)) == (("sql",), [("a", "odd_name")])
    fleet.learn(parts, pod, LISTS, None)
    assert reasons(parts) == []


@pytest.mark.parametrize(
    "other",
    [None, make_pod("a", uid="2"), make_pod("a", "http://127.0.0.1:10"), make_pod("a", life="2")],
    ids=["gone", "another", "moved", "restarted"],
)
def test_an_answer_that_comes_late_is_nobodys(parts: Parts, other: Pod | None) -> None:
    """The pod that was asked has gone, or is another by now: it leaves nothing behind."""
    asked = come(parts, make_pod("a"))
    if other is None:
        go(parts, "a")
    else:
        come(parts, other)
    fleet.learn(parts, asked, LISTS, ODD)
    assert reasons(parts) == []
    assert not parts.roster.learned
    assert other is None or parts.pods["a"].loras == ()


def test_series_of_a_pod_end_with_it(parts: Parts) -> None:
    """Those of the others go on; what is counted late ends with the next pod that goes."""
    metrics = parts.metrics

    def count(*pods: str) -> None:
        for pod in pods:
            metrics.picks.labels("cost", pod, "0").inc()
            metrics.first_byte_seconds.labels(pod).observe(0.1)

    def pods() -> set[str]:
        samples = [sample for family in metrics.registry.collect() for sample in family.samples]
        return {sample.labels["pod"] for sample in samples if "pod" in sample.labels}

    fleet.adopt(parts, StaticPods([make_pod("a"), make_pod("b"), make_pod("c")]))
    count("a", "b", "c")
    fleet.adopt(parts, StaticPods([make_pod("a"), make_pod("c")]))
    assert pods() == {"a", "c"}
    count("b", "a")
    fleet.adopt(parts, StaticPods([make_pod("a")]))
    assert pods() == {"a"}
    assert metrics.registry.get_sample_value("kvsync_picks_total", {"policy": "cost", "pod": "a", "rank": "0"}) == 2


def test_containers_that_began_anew_hold_nothing_of_ours(parts: Parts) -> None:
    """Neither by our own picks, nor by the record of a pod without events."""
    pod = come(parts, make_pod("a", events=None, life="1"))
    parts.router.approximate.enter(A, [1, 2], 0.0)
    parts.router.own_picks.add(A, [1, 2], 0.0)
    assert parts.router.approximate.blocks(A, [1, 2], 0.0) == 2
    assert "picks=1" in repr(parts.router.own_picks)
    come(parts, replace(pod, life="2"))
    assert parts.router.approximate.blocks(A, [1, 2], 0.0) == 0
    assert "picks=0" in repr(parts.router.own_picks)
