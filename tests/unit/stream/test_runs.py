"""Batches of several engines, given to the index in one call."""

from __future__ import annotations

from dataclasses import dataclass, field

from kvsync.stream.endpoints import Source
from kvsync.stream.instructions import Payload
from kvsync.stream.runs import RUN_FRAMES, Runs
from kvsync.types import Applied, Engine

Item = tuple[Engine, Payload, str, int | None]


@dataclass
class _Link:
    """What leaves runs, and counts who may look."""

    source: Source
    pinned: int = 0
    alone: list[tuple[int, Payload]] = field(default_factory=list)

    def pin(self) -> None:
        self.pinned += 1

    def unpin(self) -> None:
        self.pinned -= 1

    def apply(self, number: int, payload: Payload) -> None:
        assert self.pinned
        self.alone.append((number, payload))


class _Target:
    """An index that notes its calls; `refuses` fails each of them."""

    def __init__(self, links: list[_Link], *, refuses: bool = False) -> None:
        self.calls: list[list[Item]] = []
        self._links = links
        self._refuses = refuses

    def apply_many(self, items: list[Item]) -> None:
        assert all(link.pinned for link in self._links if any(item[0] == link.source.engine for item in items))
        self.calls.append(list(items))
        if self._refuses:
            raise ValueError("no")

    def apply(self, *args: object, **more: object) -> Applied:
        raise NotImplementedError

    restart = clear = doubt = confirm = remove = apply


def _link(name: str) -> _Link:
    return _Link(Source(Engine(name), "m", f"tcp://127.0.0.1:{5000 + ord(name)}"))


def test_runs_of_several_links_are_one_call() -> None:
    """What links leave goes to the index together, in order, while none of them can be looked at."""
    a, b = _link("a"), _link("b")
    target = _Target([a, b])
    runs = Runs(target)  # type: ignore[arg-type]
    runs.add(a, 3, [b"a3", b"a4"])
    runs.add(b, 0, [b"b0"])
    assert (a.pinned, b.pinned, target.calls) == (1, 1, [])
    runs.flush()
    ea, eb = a.source.engine, b.source.engine
    assert target.calls == [[(ea, b"a3", "m", 3), (ea, b"a4", "m", 4), (eb, b"b0", "m", 0)]]
    assert (a.pinned, b.pinned) == (0, 0)
    runs.flush()
    assert len(target.calls) == 1


def test_a_call_is_bounded() -> None:
    """No call has more batches than others are to wait for."""
    a = _link("a")
    target = _Target([a])
    runs = Runs(target)  # type: ignore[arg-type]
    for first in range(0, 4 * RUN_FRAMES, RUN_FRAMES // 2 + 1):
        runs.add(a, first, [b"x"] * (RUN_FRAMES // 2 + 1))
    runs.flush()
    assert max(map(len, target.calls)) <= RUN_FRAMES
    assert [item[3] for call in target.calls for item in call] == list(range(len(target.calls) * (RUN_FRAMES // 2 + 1)))
    assert a.pinned == 0


def test_a_refused_call_is_tried_one_by_one() -> None:
    """Where the index refuses a call, each batch is tried by itself by the link that left it."""
    a, b = _link("a"), _link("b")
    runs = Runs(_Target([a, b], refuses=True))  # type: ignore[arg-type]
    runs.add(a, 7, [b"a7", b"a8"])
    runs.add(b, 1, [b"b1"])
    runs.flush()
    assert (a.alone, b.alone) == ([(7, b"a7"), (8, b"a8")], [(1, b"b1")])
    assert (a.pinned, b.pinned) == (0, 0)
