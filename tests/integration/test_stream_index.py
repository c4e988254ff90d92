"""Whatever happens to an engine's stream over real sockets, the index ends in the state and trust that it deserves."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.integration.ports import free_ports
from tests.integration.stream_helpers import (
    BLOCK,
    ENGINE,
    MODEL,
    NEVER_S,
    QUICK,
    Clock,
    batch,
    batches,
    held,
    holds,
    is_balanced,
    source,
    wait_for,
    wait_until,
)

from kvsync.index import Index
from kvsync.stream.endpoints import Source
from kvsync.stream.options import SequenceOptions
from kvsync.stream.status import StreamStatus
from kvsync.stream.subscriber import Subscriber
from kvsync.testing.publisher import ScriptedPublisher, number_bytes
from kvsync.testing.wire import Cleared, Removed, Stored, encode_batch
from kvsync.types import Trust

FRAME_BYTES_MAX = 10_000
TOO_LARGE = bytes(FRAME_BYTES_MAX + 1)
TIMEOUT_S = 0.6
IMPATIENT = replace(
    QUICK, sequence=SequenceOptions(replay_timeout_s=TIMEOUT_S, replay_attempts=2, probe_idle_s=NEVER_S)
)
"""For a clock of the test's own: no answer is late before the test lets time pass."""

PROBING = replace(QUICK, sequence=SequenceOptions(replay_timeout_s=NEVER_S, probe_idle_s=0.4))
NARROW = replace(QUICK, frame_bytes_max=FRAME_BYTES_MAX)


def follow(
    index: Index, subscriber: Subscriber, publisher: ScriptedPublisher, *, count: int, replay: bool = True
) -> None:
    """
    Follow a publisher and let it publish `count` batches that all arrive; the replay of the beginning is over.

    Were it not, its answer could hold what the test is about to lose.
    """
    subscriber.add(source(publisher, replay=replay))
    publisher.wait_for_subscriber()
    # A replay that is asked for before and answered after would meet a small buffer that has wrapped by then.
    wait_until(subscriber, lambda status: status.state == "live")
    publisher.publish_all(batches(count))
    wait_until(subscriber, lambda status: status.applied == count - 1 and status.state == "live")
    assert held(index) == holds(count)
    assert index.trust(ENGINE) is Trust.EXACT


def wait_out(subscriber: Subscriber, clock: Clock, condition: Callable[[StreamStatus], object]) -> None:
    """
    Let answers be late until an engine's status fulfils the condition.
    """

    def is_so() -> bool:
        clock.now += TIMEOUT_S / 10
        return bool(condition(subscriber.status()[ENGINE]))

    wait_for(is_so, lambda: subscriber.status()[ENGINE])


@pytest.mark.parametrize("topic_in_replay", [False, True])
def test_a_gap_is_filled_by_a_replay(topic_in_replay: bool) -> None:
    """A batch lost on the live stream comes by replay, in either form, and the record stays exact."""
    with (
        ScriptedPublisher(topic_in_replay=topic_in_replay) as publisher,
        Index() as index,
        Subscriber(index, QUICK) as subscriber,
    ):
        follow(index, subscriber, publisher, count=3)
        publisher.publish(batch(3), live=False)
        publisher.publish(batch(4))
        wait_until(subscriber, lambda status: status.applied == 4)
        assert held(index) == holds(5)
        assert index.trust(ENGINE) is Trust.EXACT
        status = subscriber.status()[ENGINE]
        assert (status.gaps, status.unfilled) == (1, 0)
        assert publisher.asked[-1] == 2  # the last batch held, whose bytes show whose answer it is


def test_a_gap_without_a_replay_port_is_stale() -> None:
    """Without a replay port a gap is passed over at once, and the record turns stale."""
    with ScriptedPublisher(replay=None) as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        follow(index, subscriber, publisher, count=3, replay=False)
        publisher.publish(batch(3), live=False)
        publisher.publish(batch(4))
        wait_until(subscriber, lambda status: status.applied == 4)
        assert index.trust(ENGINE) is Trust.STALE
        assert subscriber.status()[ENGINE].unfilled == 1


def test_a_gap_that_the_buffer_lost_is_stale() -> None:
    """A batch that no replay holds any more leaves a stale record that goes on with the live stream."""
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        follow(index, subscriber, publisher, count=3)
        publisher.publish(batch(3), live=False, keep=False)
        publisher.publish(batch(4))
        wait_until(subscriber, lambda status: status.applied == 4)
        assert index.trust(ENGINE) is Trust.STALE
        assert held(index) == [1, 2, 3, 5]


def test_a_duplicate_changes_nothing() -> None:
    """What a replay has brought already is dropped and counted when the live stream brings it."""
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        publisher.publish_all(batches(4))
        subscriber.add(source(publisher))
        publisher.wait_for_subscriber()
        wait_until(subscriber, lambda status: status.applied == 3)
        publisher.send([publisher.topic, number_bytes(2), batch(2)])
        publisher.send([publisher.topic, number_bytes(3), batch(3)])
        wait_until(subscriber, lambda status: status.live_last == 3)
        status = subscriber.status()[ENGINE]
        assert (status.duplicate, status.restarts) == (2, 0)
        assert held(index) == holds(4)
        assert index.record(ENGINE).counters["stored"] == 4
        assert index.trust(ENGINE) is Trust.EXACT


@pytest.mark.parametrize("replay", [False, True])
def test_a_restart_begins_a_new_record(replay: bool) -> None:
    """A number below the highest heard live is a new life: the old record goes, the new one is exact."""
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        follow(index, subscriber, publisher, count=5, replay=replay)
        publisher.restart()
        publisher.wait_for_subscriber()
        publisher.publish_all(batches(2, life=1))
        wait_until(subscriber, lambda status: status.applied == 1)
        assert held(index) == holds(2)
        assert index.trust(ENGINE) is Trust.EXACT
        assert index.record(ENGINE).lives == 2
        assert subscriber.status()[ENGINE].restarts == 1


def test_a_silent_restart_is_found_on_reconnection() -> None:
    """A new life that has published nothing is known by its empty buffer: the record is empty and exact."""
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        follow(index, subscriber, publisher, count=5)
        publisher.restart()
        wait_until(subscriber, lambda status: status.restarts == 1)
        wait_for(lambda: index.trust(ENGINE) is Trust.EXACT, lambda: index.record(ENGINE))
        assert held(index) == []


def test_a_restart_that_passed_the_old_number_is_found() -> None:
    """A new life that goes on right where the old one ended is told by the bytes of the last batch."""
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        follow(index, subscriber, publisher, count=3)
        publisher.drop_connections(forget=True)
        publisher.publish_all(batches(3, life=1), live=False)
        publisher.wait_for_subscriber()
        publisher.publish(batch(3, life=1))
        wait_until(subscriber, lambda status: status.applied == 3 and status.restarts == 1)
        assert held(index) == holds(4)
        assert index.record(ENGINE).lives == 2
        assert index.trust(ENGINE) is Trust.EXACT


def test_a_restart_in_mid_life_without_a_replay_port_is_partial() -> None:
    """Without a replay port a new life heard from its middle on is a lower bound."""
    with ScriptedPublisher(replay=None) as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        follow(index, subscriber, publisher, count=5, replay=False)
        publisher.restart()
        publisher.publish_all(batches(2, life=1), live=False)
        publisher.wait_for_subscriber()
        publisher.publish(batch(2, life=1))
        wait_until(subscriber, lambda status: status.restarts == 1)
        wait_for(lambda: held(index) == [3], lambda: held(index))
        assert index.trust(ENGINE) is Trust.PARTIAL


def test_a_wrapped_buffer_is_accepted() -> None:
    """A buffer that no longer begins at number 0 gives a partial record, not an empty one."""
    with ScriptedPublisher(buffer_steps=4) as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        publisher.publish_all(batches(10))
        subscriber.add(source(publisher))
        wait_until(subscriber, lambda status: status.applied == 9)
        assert held(index) == [7, 8, 9, 10]
        assert index.trust(ENGINE) is Trust.PARTIAL


def test_a_first_contact_late_in_life_is_exact_by_replay() -> None:
    """A whole buffer makes a late contact exact, before a live batch is heard."""
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        publisher.publish_all(batches(50))
        subscriber.add(source(publisher))
        wait_until(subscriber, lambda status: status.applied == 49)
        assert held(index) == holds(50)
        assert index.trust(ENGINE) is Trust.EXACT
        assert subscriber.status()[ENGINE].live_last is None


def test_a_first_contact_late_in_life_without_a_port_is_partial() -> None:
    """Without a replay port a late contact is a lower bound from its first live batch on."""
    with ScriptedPublisher(replay=None) as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        publisher.publish_all(batches(5))
        subscriber.add(source(publisher, replay=False))
        publisher.wait_for_subscriber()
        publisher.publish(batch(5))
        wait_until(subscriber, lambda status: status.applied == 5)
        assert held(index) == [6]
        assert index.trust(ENGINE) is Trust.PARTIAL


def test_an_orphan_is_evidence_of_loss_and_joins_later() -> None:
    """A block whose parent was never stored makes an exact record stale, and matches once the parent is there."""
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        follow(index, subscriber, publisher, count=1)
        publisher.publish(batch(2))  # the child of batch 1, which is not there
        wait_until(subscriber, lambda status: status.applied == 1)
        assert index.trust(ENGINE) is not Trust.EXACT
        tokens = list(range(3 * BLOCK))
        assert index.match(tokens, model=MODEL)[ENGINE].blocks == 1
        publisher.publish(batch(1))
        wait_for(
            lambda: index.match(tokens, model=MODEL)[ENGINE].blocks == 3,
            lambda: index.match(tokens, model=MODEL)[ENGINE],
        )


def test_hashes_of_bytes_arrive_whole() -> None:
    """Hashes of 32 bytes are kept, listed and removed like any other."""
    first, second = bytes(range(32)), bytes(range(32, 64))
    stored = Stored(hashes=(first, second), tokens=tuple(range(2 * BLOCK)), block_size=BLOCK)
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        subscriber.add(source(publisher))
        publisher.wait_for_subscriber()
        publisher.publish(encode_batch([stored]))
        publisher.publish(encode_batch([Removed(hashes=(second,))]))
        wait_until(subscriber, lambda status: status.applied == 1)
        assert index.engine_hashes(ENGINE) == {"GPU": {0: {first: 1}}}
        assert index.trust(ENGINE) is Trust.EXACT


def test_an_undecodable_batch_uses_its_number_and_is_stale() -> None:
    """Junk for a payload costs trust and nothing else: the batches around it apply, and a clear heals."""
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        follow(index, subscriber, publisher, count=2)
        publisher.publish(b"\xc1 not msgpack")
        publisher.publish(batch(2))
        wait_until(subscriber, lambda status: status.applied == 3)
        assert held(index) == holds(3)
        assert index.trust(ENGINE) is Trust.STALE
        assert subscriber.status()[ENGINE].gaps == 0
        publisher.publish(encode_batch([Cleared()]))
        wait_for(lambda: index.trust(ENGINE) is Trust.EXACT, lambda: index.record(ENGINE))


def test_an_oversize_frame_is_passed_over() -> None:
    """A frame over the limit costs its number only: the line is built anew, and the record is stale."""
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, NARROW) as subscriber:
        follow(index, subscriber, publisher, count=3)
        publisher.publish(TOO_LARGE)
        wait_until(subscriber, lambda status: status.oversize and status.reconnects == 1)
        assert index.trust(ENGINE) is Trust.STALE
        publisher.wait_for_subscriber()
        publisher.publish(batch(3))
        wait_until(subscriber, lambda status: status.applied == 4)
        assert held(index) == holds(4)
        assert index.trust(ENGINE) is Trust.STALE
        asked_after = publisher.asked[1:]
        assert 3 not in asked_after
        assert not subscriber.status()[ENGINE].waiting


def test_an_oversize_frame_in_a_replay_is_passed_over() -> None:
    """An over-size frame in the buffer ends an answer; the next one begins behind it, and is proven afterwards."""
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, NARROW) as subscriber:
        publisher.publish_all([*batches(3), TOO_LARGE, batch(3)])
        subscriber.add(source(publisher))
        wait_until(subscriber, lambda status: status.applied == 4)
        assert held(index) == holds(4)
        assert index.trust(ENGINE) is Trust.STALE
        wait_for(lambda: publisher.asked[:3] == [0, 4, 2], lambda: publisher.asked)
        assert subscriber.status()[ENGINE].oversize >= 1


def test_a_reconnection_to_the_same_life_stays_exact() -> None:
    """Batches published while nobody was connected come by the replay that verifies the life."""
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        follow(index, subscriber, publisher, count=3)
        publisher.drop_connections()
        publisher.publish_all([batch(3), batch(4)], live=False)
        wait_until(subscriber, lambda status: status.reconnects == 1 and status.applied == 4)
        assert held(index) == holds(5)
        assert index.trust(ENGINE) is Trust.EXACT
        assert publisher.asked == [0, 2]
        assert subscriber.status()[ENGINE].restarts == 0


def test_a_reconnection_to_a_wrapped_buffer_is_stale() -> None:
    """A buffer that lost the last known batch is kept, but nothing proves that it is the same life."""
    with ScriptedPublisher(buffer_steps=2) as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        follow(index, subscriber, publisher, count=3)
        publisher.drop_connections()
        publisher.publish_all([batch(3), batch(4)], live=False)
        wait_until(subscriber, lambda status: status.applied == 4)
        assert held(index) == holds(5)
        assert index.trust(ENGINE) is Trust.STALE


def test_a_reconnection_without_a_replay_port_is_stale() -> None:
    """Without a replay port nothing proves that a connection leads to the same life."""
    with ScriptedPublisher(replay=None) as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        follow(index, subscriber, publisher, count=3, replay=False)
        publisher.drop_connections()
        wait_for(lambda: index.trust(ENGINE) is Trust.STALE, lambda: index.record(ENGINE))
        assert held(index) == holds(3)


def test_a_lost_tail_is_found_by_a_probe() -> None:
    """The last batches of a stream that then falls silent are found without a later one."""
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, PROBING) as subscriber:
        follow(index, subscriber, publisher, count=3)
        publisher.publish(batch(3), live=False)
        wait_until(subscriber, lambda status: status.applied == 3)
        assert held(index) == holds(4)
        assert index.trust(ENGINE) is Trust.EXACT
        assert subscriber.status()[ENGINE].restarts == 0


def test_half_an_answer_is_resumed() -> None:
    """An answer that stops half-way is asked for again from where it stopped until it is whole."""
    clock = Clock()
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, IMPATIENT, clock=clock) as subscriber:
        publisher.publish_all(batches(7))
        publisher.answer_max = 3
        subscriber.add(source(publisher))
        for last in (2, 4, 6):
            wait_until(subscriber, lambda status, last=last: status.applied == last)  # type: ignore[misc]
            clock.now += TIMEOUT_S
        assert held(index) == holds(7)
        assert index.trust(ENGINE) is Trust.EXACT
        assert publisher.asked[:3] == [0, 2, 4]


def test_a_hole_inside_an_answer_is_asked_for_again() -> None:
    """A number missing inside an answer is asked for once more, and passed over once it is surely not there."""
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        publisher.publish_all(batches(6))
        publisher.left_out = {3}
        subscriber.add(source(publisher))
        wait_until(subscriber, lambda status: status.applied == 5)
        assert publisher.asked[:2] == [0, 2]
        assert held(index) == [1, 2, 3, 5, 6]
        assert index.trust(ENGINE) is Trust.STALE


def test_a_lost_end_marker_costs_nothing() -> None:
    """An answer without its end marker is whole all the same."""
    clock = Clock()
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, IMPATIENT, clock=clock) as subscriber:
        publisher.publish_all(batches(4))
        publisher.ends = False
        subscriber.add(source(publisher))
        publisher.wait_for_subscriber()
        wait_until(subscriber, lambda status: status.applied == 3)
        wait_out(subscriber, clock, lambda status: status.state == "live")
        publisher.publish(batch(4))
        wait_until(subscriber, lambda status: status.applied == 4)
        assert held(index) == holds(5)
        assert index.trust(ENGINE) is Trust.EXACT


def test_no_answer_to_a_replay_lets_the_stream_go_on() -> None:
    """A replay port that never answers is given up after a while: the live frames that waited apply over the gap."""
    clock = Clock()
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, IMPATIENT, clock=clock) as subscriber:
        follow(index, subscriber, publisher, count=3)
        publisher.silent = True
        publisher.publish(batch(3), live=False)
        publisher.publish(batch(4))
        wait_out(subscriber, clock, lambda status: status.applied == 4)
        assert held(index) == [1, 2, 3, 5]
        assert index.trust(ENGINE) is Trust.STALE
        assert subscriber.status()[ENGINE].replay_available is False


def test_a_dead_replay_port_lets_the_stream_go_on() -> None:
    """A replay endpoint where nobody listens is no more than no answer."""
    clock, dead = Clock(), f"tcp://127.0.0.1:{free_ports(1)}"
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, IMPATIENT, clock=clock) as subscriber:
        subscriber.add(Source(ENGINE, MODEL, publisher.events, dead))
        publisher.wait_for_subscriber()
        publisher.publish_all(batches(3))
        wait_out(subscriber, clock, lambda status: status.applied == 2 and status.replay_available is False)
        assert held(index) == holds(3)
        assert index.trust(ENGINE) is Trust.EXACT


def test_frames_of_the_wrong_shape_are_dropped_and_counted() -> None:
    """Messages of too few or too many frames, or with a number of another length, harm nobody."""
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        follow(index, subscriber, publisher, count=2)
        topic = publisher.topic
        publisher.send([topic])
        publisher.send([topic, number_bytes(2)])
        publisher.send([topic, number_bytes(2), batch(2), b"more"])
        publisher.send([topic, b"\0\2", batch(2)])
        publisher.send([topic, b"\xff" * 8, batch(2)])
        publisher.publish(batch(2))
        wait_until(subscriber, lambda status: status.applied == 2)
        status = subscriber.status()[ENGINE]
        assert {reason: status.dropped[reason] for reason in ("frame_count", "number")} == {
            "frame_count": 3,
            "number": 2,
        }
        assert is_balanced(status)
        assert held(index) == holds(3)
        assert index.trust(ENGINE) is Trust.EXACT


def test_junk_in_an_answer_is_dropped_and_counted() -> None:
    """Messages of the wrong shape inside an answer do not end it."""
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        publisher.publish_all(batches(3))
        publisher.junk = [[b"1", b"2", b"3", b"4", b"5", b"6"], [b"topic", b"short", b"payload"]]
        subscriber.add(source(publisher))
        wait_until(subscriber, lambda status: status.applied == 2)
        status = subscriber.status()[ENGINE]
        assert (status.dropped["frame_count"], status.dropped["number"]) == (1, 1)
        assert index.trust(ENGINE) is Trust.EXACT


def test_a_publisher_that_connects_is_followed_by_binding() -> None:
    """With bind=1 the engine connects to us, and no batch after its subscription is lost."""
    events = f"tcp://127.0.0.1:{free_ports(1)}"
    with Index() as index, Subscriber(index, QUICK) as subscriber:
        subscriber.add(Source(ENGINE, MODEL, events, bind=True))
        with ScriptedPublisher(events=events, connect=True, replay=None) as publisher:
            publisher.wait_for_subscriber()
            publisher.publish_all(batches(20))
            wait_until(subscriber, lambda status: status.applied == 19)
            assert held(index) == holds(20)
            assert index.trust(ENGINE) is Trust.EXACT
        wait_until(subscriber, lambda status: not status.connected)
