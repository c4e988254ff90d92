"""Streams that the core follows by itself: whoever looks, at whatever moment, sees what is in the index."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace

import pytest
from tests.integration.stream_helpers import ENGINE, QUICK, batch, batches, held, holds, source, wait_for, wait_until

from kvsync.index import Index
from kvsync.stream.frames import PUB, Frames
from kvsync.stream.link import Link
from kvsync.stream.options import SubscriberOptions
from kvsync.stream.receiver import Burst, CoreHaul, find_libzmq
from kvsync.stream.subscriber import Subscriber
from kvsync.testing.publisher import ScriptedPublisher
from kvsync.types import Engine, Trust

pytestmark = pytest.mark.skipif(find_libzmq() is None, reason="pyzmq shows no libzmq, so nothing is followed")

MANY = 3_000


@contextmanager
def following(options: SubscriberOptions = QUICK) -> Iterator[tuple[Index, ScriptedPublisher, Subscriber, Link]]:
    """A stream with one batch, once the core follows it."""
    with Index() as index, ScriptedPublisher() as publisher, Subscriber(index, options) as followed:
        followed.add(source(publisher))
        publisher.wait_for_subscriber()
        publisher.publish(batch(0))
        wait_until(followed, lambda status: status.applied == 0 and status.state == "live")
        link = followed._links[ENGINE]
        wait_for(lambda: link.is_followed, lambda: link)
        yield index, publisher, followed, link


def test_what_is_followed_has_no_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that come one after the other are shown to nobody, and the status knows of them all the same."""
    with following() as (index, publisher, followed, _):
        turns: list[object] = []
        monkeypatch.setattr(Link, "take", lambda link, burst, now, has_news: turns.append(burst))
        publisher.publish_all([batch(number) for number in range(1, 20)])
        wait_for(lambda: held(index) == holds(20), lambda: held(index))
        assert not turns
        status = followed.status()[ENGINE]
        assert (status.state, status.applied, status.applied_frames, status.gaps) == ("live", 19, 20, 0)
        assert status.last_event_age_s is not None


def test_whoever_looks_sees_what_is_in_the_index() -> None:
    """Held at any moment, a record ends with the batch that the bookmark names; nothing is counted twice or lost."""
    with following() as (index, publisher, followed, _):
        wrong: list[object] = []
        done = threading.Event()

        def look() -> None:
            while not done.is_set():
                with followed.hold(ENGINE) as bookmark:
                    assert bookmark is not None
                    if bookmark.number != index.record(ENGINE).sequence:
                        wrong.append(bookmark)
                status = followed.status()[ENGINE]
                parts = (status.applied_frames, status.duplicate, *status.dropped.values(), status.waiting)
                if status.received != sum(parts):
                    wrong.append(status)

        thread = threading.Thread(target=look)
        thread.start()
        try:
            for first in range(1, MANY, 10):
                publisher.publish_all([batch(number) for number in range(first, first + 10)])
            wait_until(followed, lambda status: status.applied == MANY)
        finally:
            done.set()
            thread.join()
        assert not wrong
        assert held(index) == holds(MANY + 1)
        assert index.trust(ENGINE) is Trust.EXACT


def test_a_hole_is_met_where_it_is() -> None:
    """What comes before it is followed, it is asked for, and after it all goes on as before."""
    with following() as (index, publisher, followed, link):
        publisher.publish_all(batches(4)[1:])
        publisher.publish(batch(4), live=False)
        publisher.publish_all([batch(number) for number in range(5, 9)])
        wait_until(followed, lambda status: status.applied == 8)
        status = followed.status()[ENGINE]
        assert (status.gaps, status.unfilled, index.trust(ENGINE)) == (1, 0, Trust.EXACT)
        assert held(index) == holds(9)
        wait_for(lambda: link.is_followed, lambda: link)


def rounds(followed: Subscriber, condition: Callable[[], object]) -> Iterator[None]:
    """Do what the subscriber's thread does, in this one, until the condition is true."""
    while not condition():
        followed._round()
        yield


def go_on(followed: Subscriber, condition: Callable[[], object]) -> None:
    """The same at once."""
    deque(rounds(followed, condition), maxlen=0)


def meet(followed: Subscriber, publisher: ScriptedPublisher, engine: Engine = ENGINE) -> Link:
    """Follow an engine by hand until it has four batches and an open lane."""
    followed.add(source(publisher, engine))
    link = followed._links[engine]
    go_on(followed, lambda: link.lane is not None)
    publisher.wait_for_subscriber()
    publisher.publish_all(batches(4))
    go_on(followed, lambda: link.is_followed and link._sequence.applied == 3)
    return link


def await_message(link: Link) -> None:
    """Return once a message has come, whose wake-up is eaten by looking."""
    line = link._line
    assert line is not None
    wait_for(line.has_more, lambda: link)


def test_a_new_life_is_not_followed_as_the_old() -> None:
    """The first batch heard of it may carry the number that was awaited: the news of its connection comes before it."""
    with Index() as index, ScriptedPublisher() as publisher, closing(Subscriber(index, QUICK)) as followed:
        link = meet(followed, publisher)
        publisher.restart(down=rounds(followed, lambda: not link.status(0.0).connected))
        publisher.publish_all([batch(number, life=1) for number in range(4)], live=False)
        publisher.wait_for_subscriber()
        publisher.publish(batch(4, life=1))
        await_message(link)
        followed.serve_soon(link)
        go_on(followed, lambda: link.status(0.0).state == "live" and link.status(0.0).applied == 4)
        publisher.publish(batch(5, life=1))
        go_on(followed, lambda: link.is_followed and held(index) == holds(6))
        status = link.status(0.0)
        assert (status.restarts, status.reconnects, index.trust(ENGINE)) == (1, 1, Trust.EXACT)


def test_a_tap_is_shown_every_frame() -> None:
    """So with one nothing is followed."""
    seen: list[bytes] = []

    def tap(_: Engine, channel: str, frames: Frames) -> None:
        if channel == PUB:
            seen.append(bytes(frames[-1]))

    with Index() as index, ScriptedPublisher() as publisher, closing(Subscriber(index, QUICK, tap)) as followed:
        followed.add(source(publisher))
        link = followed._links[ENGINE]
        go_on(followed, lambda: link.lane is not None)
        publisher.wait_for_subscriber()
        for number in range(30):
            publisher.publish(batch(number))
            go_on(followed, lambda: held(index) == holds(len(seen)) and len(seen) == publisher.number + 1)
        assert seen == batches(30)


def test_nothing_is_followed_after_removal() -> None:
    """When `remove` has returned nothing is applied any more, although the thread has not closed the sockets yet."""
    with Index() as index, ScriptedPublisher() as publisher, closing(Subscriber(index, QUICK)) as followed:
        link = meet(followed, publisher)
        followed.remove(ENGINE)
        publisher.publish(batch(4))
        await_message(link)
        followed._serve([link], 0.0)
        assert index.record(ENGINE).sequence == 3


def test_who_found_no_room_in_a_burst_is_not_forgotten() -> None:
    """Its wake-up may have been eaten: it is read next, before the descriptors are looked at again."""
    other, options = Engine("other"), replace(QUICK, burst_bytes=1)
    with Index() as index, ExitStack() as stack:
        followed = stack.enter_context(closing(Subscriber(index, options)))
        publishers = [stack.enter_context(ScriptedPublisher()) for _ in range(2)]
        links = [
            meet(followed, publisher, engine) for publisher, engine in zip(publishers, (ENGINE, other), strict=True)
        ]
        for publisher, link in zip(publishers, links, strict=True):
            publisher.publish(batch(4))
            await_message(link)
            followed.serve_soon(link)
        followed._round()
        assert [index.record(engine).sequence for engine in (ENGINE, other)] == [4, 4]


def test_sockets_that_do_not_fit_in_one_burst_have_their_turns() -> None:
    """Whatever the first of them have to say, and of that no more than fits."""
    engines = [Engine(f"pod-{nth}") for nth in range(5)]
    options = replace(QUICK, burst_bytes=1, burst_frames=3)
    with Index() as index, ExitStack() as stack, Subscriber(index, options) as followed:
        publishers = [stack.enter_context(ScriptedPublisher()) for _ in engines]
        for engine, publisher in zip(engines, publishers, strict=True):
            followed.add(source(publisher, engine))
            publisher.wait_for_subscriber()
        for number in range(30):
            for publisher in publishers:
                publisher.publish(batch(number))
        for engine in engines:
            wait_until(followed, lambda status: status.applied == 29, engine)
            assert (held(index, engine), index.trust(engine)) == (holds(30), Trust.EXACT)
            assert followed.status()[engine].gaps == 0


def test_without_memory_for_what_was_read_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was taken off a socket and is lost is a hole: the line is opened again, and a replay fills it."""
    with following() as (index, publisher, followed, link):
        sound, refused = CoreHaul.bursts, list[object]()

        def bursts(haul: CoreHaul, places: Sequence[int]) -> list[Burst]:
            if places and not refused:
                refused.append(places)
                raise MemoryError
            return sound(haul, places)

        followed.status()  # closes the lane: the next batch is to be looked at
        monkeypatch.setattr(Link, "begin", lambda link, now: None)
        monkeypatch.setattr(CoreHaul, "bursts", bursts)
        publisher.publish(batch(1))
        wait_for(lambda: refused, lambda: link)
        monkeypatch.undo()
        wait_for(lambda: link.status(0.0).reconnects == 1, lambda: link)
        publisher.publish(batch(2))
        wait_until(followed, lambda status: status.applied == 2)
        assert (held(index), index.trust(ENGINE)) == (holds(3), Trust.EXACT)


def test_what_the_index_refuses_is_told() -> None:
    """An index that was closed is told of at the engine, and the thread goes on."""
    with following() as (index, publisher, followed, _):
        index.close()
        publisher.publish(batch(1))
        wait_until(followed, lambda status: "closed" in str(status.error))
