"""Streams that the core follows by itself: whoever looks, at whatever moment, sees what is in the index."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from tests.integration.stream_helpers import ENGINE, QUICK, batch, batches, held, holds, source, wait_for, wait_until

from kvsync.index import Index
from kvsync.stream.link import Link
from kvsync.stream.receiver import find_libzmq
from kvsync.stream.subscriber import Subscriber
from kvsync.testing.publisher import ScriptedPublisher
from kvsync.types import Trust

pytestmark = pytest.mark.skipif(find_libzmq() is None, reason="pyzmq shows no libzmq, so nothing is followed")

MANY = 3_000


@contextmanager
def following() -> Iterator[tuple[Index, ScriptedPublisher, Subscriber, Link]]:
    """A stream with one batch, once the core follows it."""
    with Index() as index, ScriptedPublisher() as publisher, Subscriber(index, QUICK) as followed:
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


def test_a_new_life_is_not_followed_as_the_old() -> None:
    """Its first batch may carry the number that was awaited: the news of its connection comes before it."""
    with following() as (index, publisher, followed, _):
        publisher.publish_all(batches(4)[1:])
        wait_for(lambda: held(index) == holds(4), lambda: held(index))
        publisher.restart()
        publisher.publish_all([batch(number, life=1) for number in range(6)])
        wait_until(followed, lambda status: status.restarts == 1 and status.applied == 5)
        assert held(index) == holds(6)
        assert index.trust(ENGINE) is Trust.EXACT


def test_what_the_index_refuses_is_told() -> None:
    """An index that was closed is told of at the engine, and the thread goes on."""
    with following() as (index, publisher, followed, _):
        index.close()
        publisher.publish(batch(1))
        wait_until(followed, lambda status: "closed" in str(status.error))


def test_after_removal_nothing_is_applied() -> None:
    """When `remove` has returned, the core is not in the middle of anything either."""
    with following() as (index, publisher, followed, _):
        for number in range(1, 200):
            publisher.publish(batch(number))
        followed.remove(ENGINE)
        sequence = index.record(ENGINE).sequence
        publisher.publish_all([batch(number) for number in range(200, 300)])
        assert index.record(ENGINE).sequence == sequence
