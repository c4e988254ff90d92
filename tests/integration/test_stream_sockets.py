"""The subscriber's thread and sockets: many engines, dead ones, wrong ones, and nothing left behind."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from random import Random

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
from tests.patience import PATIENCE_S

from kvsync.errors import CapacityError, ClosedError, ConfigError
from kvsync.index import Index
from kvsync.stream.endpoints import Source, sources_of_pod
from kvsync.stream.frames import Frames
from kvsync.stream.options import MIB, SequenceOptions, SubscriberOptions
from kvsync.stream.sockets import Line, new_context, room_for
from kvsync.stream.status import StreamStatus
from kvsync.stream.subscriber import THREAD_NAME, Subscriber
from kvsync.testing.publisher import ScriptedPublisher
from kvsync.testing.wire import Stored, encode_batch
from kvsync.types import Engine, Trust

MANY = 60
OTHER = Engine("other", 0)
DESCRIPTORS = Path("/proc/self/fd")


def descriptors() -> int:
    """
    How many files the process has open.
    """
    return sum(1 for _ in DESCRIPTORS.iterdir())


def test_a_dead_port_is_a_status_and_heals() -> None:
    """An engine that is not there yet is tried until it is, and says so meanwhile."""
    events = f"tcp://127.0.0.1:{free_ports(1)}"
    with Index() as index, Subscriber(index, QUICK) as subscriber:
        subscriber.add(Source(ENGINE, MODEL, events))
        wait_until(subscriber, lambda status: status.error is not None)
        status = subscriber.status()[ENGINE]
        assert (status.connected, status.state) == (False, "connecting")
        assert status.error is not None
        assert events in status.error
        with ScriptedPublisher(events=events, replay=None) as publisher:
            publisher.wait_for_subscriber()
            publisher.publish_all(batches(2))
            wait_until(subscriber, lambda status: status.applied == 1 and status.error is None)
            assert index.trust(ENGINE) is Trust.EXACT


def test_an_unknown_name_is_a_status() -> None:
    """A host that does not resolve is tried for ever, like one that does not answer."""
    with Index() as index, Subscriber(index, QUICK) as subscriber:
        subscriber.add(Source(ENGINE, MODEL, "tcp://no-such-host.invalid:5557"))
        wait_until(subscriber, lambda status: status.error is not None)
        assert subscriber.status()[ENGINE].state == "connecting"


def test_a_port_that_speaks_something_else_is_a_status() -> None:
    """A web server on the events port is named as such, and does not stop the retries."""
    with socket.socket() as server, Index() as index, Subscriber(index, QUICK) as subscriber:
        server.bind(("127.0.0.1", 0))
        server.listen()
        server.settimeout(PATIENCE_S)
        subscriber.add(Source(ENGINE, MODEL, f"tcp://127.0.0.1:{server.getsockname()[1]}"))
        for _ in range(2):
            connection, _ = server.accept()
            with connection:
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" + bytes(100))
                wait_until(subscriber, lambda status: status.error is not None)
        assert subscriber.status()[ENGINE].oversize == 0


def test_a_port_in_use_is_a_status_and_heals() -> None:
    """A bound line waits until its port is free."""
    port = free_ports(1)
    events = f"tcp://127.0.0.1:{port}"
    with (
        socket.create_server(("127.0.0.1", port)) as taken,
        Index() as index,
        Subscriber(index, QUICK) as subscriber,
    ):
        subscriber.add(Source(ENGINE, MODEL, events, bind=True))
        wait_until(subscriber, lambda status: "cannot be bound" in (status.error or ""))
        taken.close()
        with ScriptedPublisher(events=events, connect=True, replay=None) as publisher:
            publisher.wait_for_subscriber()
            publisher.publish(batch(0))
            wait_until(subscriber, lambda status: status.applied == 0)


@pytest.mark.parametrize("events", ["127.0.0.1:5557", "tcp://127.0.0.1", "tcp://*:5557", "inproc://events"])
def test_a_wrong_endpoint_is_refused_at_once(events: str) -> None:
    """What can never work is the operator's error, not a status."""
    with Index() as index, Subscriber(index, QUICK) as subscriber:
        with pytest.raises(ConfigError):
            subscriber.add(Source(ENGINE, MODEL, events))
        assert subscriber.status() == {}


def test_an_engine_is_followed_once() -> None:
    """The same source again is no news; the same engine elsewhere is an error."""
    with Index() as index, Subscriber(index, QUICK) as subscriber:
        here = Source(ENGINE, MODEL, "tcp://127.0.0.1:1")
        subscriber.add(here)
        subscriber.add(here)
        with pytest.raises(ConfigError, match="remove it before"):
            subscriber.add(replace(here, events="tcp://127.0.0.1:2"))


def test_engines_beyond_the_limit_are_refused() -> None:
    """libzmq's socket table is sized once."""
    options = replace(QUICK, engines_max=1)
    with Index() as index, Subscriber(index, options) as subscriber:
        subscriber.add(Source(ENGINE, MODEL, "tcp://127.0.0.1:1"))
        with pytest.raises(CapacityError, match="raise engines_max"):
            subscriber.add(Source(OTHER, MODEL, "tcp://127.0.0.1:1"))


def test_two_ranks_are_two_engines() -> None:
    """Each rank has its own ports, numbers and record."""
    base = free_ports(4)
    events, replays = ([f"tcp://127.0.0.1:{base + start + rank}" for rank in (0, 1)] for start in (0, 2))
    with (
        ScriptedPublisher(events=events[0], replay=replays[0]) as first,
        ScriptedPublisher(events=events[1], replay=replays[1]) as second,
        Index() as index,
        Subscriber(index, QUICK) as subscriber,
    ):
        for one in sources_of_pod("pod", MODEL, first.events, first.replay, ranks=2):
            subscriber.add(one)
        for publisher, count in ((first, 2), (second, 5)):
            publisher.wait_for_subscriber()
            publisher.publish_all(batches(count))
        wait_until(subscriber, lambda status: status.applied == 1, Engine("pod", 0))
        wait_until(subscriber, lambda status: status.applied == 4, Engine("pod", 1))
        assert held(index, Engine("pod", 0)) == holds(2)
        assert held(index, Engine("pod", 1)) == holds(5)


def test_a_topic_is_a_prefix() -> None:
    """Only batches of the topic arrive."""
    with (
        ScriptedPublisher(topic=b"kv@pod", replay=None) as publisher,
        Index() as index,
        Subscriber(index, QUICK) as subscriber,
    ):
        subscriber.add(replace(source(publisher, replay=False), topic="kv@"))
        publisher.wait_for_subscriber()
        publisher.send([b"metrics", bytes(8), b"x"])
        publisher.publish(batch(0))
        wait_until(subscriber, lambda status: status.applied == 0)
        assert subscriber.status()[ENGINE].received == 1


def test_ipv6_is_reached_by_its_bracketed_address() -> None:
    """`tcp://[::1]:PORT` connects where the host has IPv6."""
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this host has no IPv6 loopback")
    with (
        ScriptedPublisher(events="tcp://[::1]:*", replay="tcp://[::1]:*") as publisher,
        Index() as index,
        Subscriber(index, QUICK) as subscriber,
    ):
        publisher.publish_all(batches(2))
        subscriber.add(source(publisher))
        publisher.wait_for_subscriber()
        publisher.publish(batch(2))
        wait_until(subscriber, lambda status: status.applied == 2)


def test_ipc_endpoints_work(tmp_path: Path) -> None:
    """A Unix socket serves an engine on the same machine, with reconnects like any other."""
    with (
        ScriptedPublisher(events=f"ipc://{tmp_path}/e", replay=f"ipc://{tmp_path}/r") as publisher,
        Index() as index,
        Subscriber(index, QUICK) as subscriber,
    ):
        publisher.publish_all(batches(3))
        subscriber.add(source(publisher))
        wait_until(subscriber, lambda status: status.applied == 2)
        publisher.drop_connections()
        wait_until(subscriber, lambda status: status.reconnects == 1 and status.state == "live")
        assert index.trust(ENGINE) is Trust.EXACT


def test_the_tap_sees_every_message() -> None:
    """Both channels, as they came, with the engine they came from; a tap that fails is left alone after that."""
    seen: list[tuple[Engine, str, list[bytes]]] = []

    def tap(engine: Engine, channel: str, frames: Frames) -> None:
        seen.append((engine, channel, [bytes(frame) for frame in frames]))
        if len(seen) == 4:
            raise RuntimeError("the tap is broken")

    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, QUICK, tap) as subscriber:
        publisher.publish(batch(0))
        subscriber.add(source(publisher))
        publisher.wait_for_subscriber()
        wait_until(subscriber, lambda status: status.applied == 0 and status.state == "live")
        publisher.publish_all([batch(1), batch(2), batch(3)])
        wait_until(subscriber, lambda status: status.applied == 3)
    number = bytes(8)
    assert seen[:2] == [
        (ENGINE, "replay", [b"", publisher.topic, number, batch(0)]),
        (ENGINE, "replay", [b"", b"", b"\xff" * 8, b""]),
    ]
    assert seen[2][1:] == ("pub", [publisher.topic, number[:-1] + b"\1", batch(1)])
    assert len(seen) == 4


def test_trouble_with_one_engines_record_spares_the_others() -> None:
    """An index that refuses one engine's batches is logged and counted; the thread goes on."""
    with (
        ScriptedPublisher() as publisher,
        ScriptedPublisher() as healthy,
        Index() as index,
        Subscriber(index, QUICK) as subscriber,
    ):
        subscriber.add(source(publisher))
        subscriber.add(source(healthy, OTHER))
        wait_until(subscriber, lambda status: status.state == "live")
        index.register(ENGINE, model="another model")
        publisher.wait_for_subscriber()
        healthy.wait_for_subscriber()
        publisher.publish_all(batches(2))
        healthy.publish_all(batches(2))
        wait_until(subscriber, lambda status: status.index_errors == 2)
        assert "another model" in (subscriber.status()[ENGINE].error or "")
        wait_until(subscriber, lambda status: status.applied == 1, OTHER)
        assert held(index, OTHER) == holds(2)


def test_an_engine_that_was_removed_is_applied_no_more() -> None:
    """Once `remove` has returned its record stays as it is, and it can be added again from the beginning."""
    with ScriptedPublisher() as publisher, Index() as index, Subscriber(index, QUICK) as subscriber:
        subscriber.add(source(publisher))
        publisher.wait_for_subscriber()
        publisher.publish_all(batches(2))
        wait_until(subscriber, lambda status: status.applied == 1)
        subscriber.remove(ENGINE)
        subscriber.remove(ENGINE)
        publisher.publish(batch(2))
        assert subscriber.status() == {}
        assert held(index) == holds(2)
        subscriber.add(source(publisher))
        wait_until(subscriber, lambda status: status.applied == 2)
        assert held(index) == holds(3)
        assert index.trust(ENGINE) is Trust.EXACT


def test_a_bookmark_goes_on_where_another_subscriber_stopped() -> None:
    """With the record at hand only what is new is applied; without a bookmark everything is learned again."""
    with ScriptedPublisher() as publisher, Index() as index:
        publisher.publish_all(batches(3))
        with Subscriber(index, QUICK) as subscriber:
            subscriber.add(source(publisher))
            wait_until(subscriber, lambda status: status.applied == 2)
            marks = subscriber.bookmarks()
        publisher.publish(batch(3))
        with Subscriber(index, QUICK) as subscriber:
            subscriber.add(source(publisher), marks[ENGINE])
            wait_until(subscriber, lambda status: status.applied == 3)
            assert subscriber.status()[ENGINE].applied_frames == 1
        assert held(index) == holds(4)
        assert index.trust(ENGINE) is Trust.EXACT
        assert publisher.asked == [0, 2]


def test_one_thread_serves_many_engines() -> None:
    """Engines cost sockets, not threads, and each ends exact."""
    publishers = [ScriptedPublisher(replay=None) for _ in range(MANY)]
    try:
        with Index() as index, Subscriber(index, QUICK) as subscriber:
            engines = [Engine(f"pod-{place}") for place in range(MANY)]
            for engine, publisher in zip(engines, publishers, strict=True):
                subscriber.add(source(publisher, engine, replay=False))
            for publisher in publishers:
                publisher.wait_for_subscriber()
            assert [thread.name for thread in threading.enumerate()].count(THREAD_NAME) == 1
            for number in range(10):
                for publisher in publishers:
                    publisher.publish(batch(number))
            for engine in engines:
                wait_until(subscriber, lambda status: status.applied == 9, engine)
                assert index.trust(engine) is Trust.EXACT
            assert all(is_balanced(status) for status in subscriber.status().values())
    finally:
        for publisher in publishers:
            publisher.close()


def test_a_torrent_from_one_engine_does_not_hold_up_another() -> None:
    """Turns are bounded: a quiet engine is heard while a loud one still has a backlog."""
    backlog, burst = 3_000, 4
    everything_is_sent = threading.Event()
    order: list[Engine] = []

    def tap(engine: Engine, _channel: str, _frames: Frames) -> None:
        if not order and engine == ENGINE:
            everything_is_sent.wait(PATIENCE_S)
            # In the reader's own thread, before it goes on: nobody else may look.
            link = subscriber._links[OTHER]
            wait_for(lambda: link._line is not None and link._line.has_more(), lambda: link)
            for each in (subscriber._links[ENGINE], link):  # looking has eaten the wake-up
                subscriber.serve_soon(each)
        order.append(engine)

    with (
        ScriptedPublisher(replay=None) as loud,
        ScriptedPublisher(replay=None) as quiet,
        Index() as index,
        Subscriber(index, replace(QUICK, burst_frames=burst), tap) as subscriber,
    ):
        subscriber.add(source(loud, replay=False))
        subscriber.add(source(quiet, OTHER, replay=False))
        loud.wait_for_subscriber()
        quiet.wait_for_subscriber()
        loud.publish_all(batch(number) for number in range(backlog))
        quiet.publish(batch(0))
        everything_is_sent.set()
        wait_until(subscriber, lambda status: status.applied == backlog - 1)
        wait_until(subscriber, lambda status: status.applied == 0, OTHER)
        assert index.trust(ENGINE) is Trust.EXACT
    # A quarter is far more than the few turns it needs, and far less than the backlog.
    assert order.index(OTHER) < backlog // 4


def test_a_mad_publisher_is_read_no_faster_than_its_budget(caplog: pytest.LogCaptureFixture) -> None:
    """Beyond its budget an engine is left alone, says why, and loses nothing that fits into the queues."""
    clock, options = Clock(), replace(QUICK, frames_per_s=400.0, frames_burst=100)
    with (
        ScriptedPublisher(replay=None) as loud,
        Index() as index,
        Subscriber(index, options, clock=clock) as subscriber,
    ):
        subscriber.add(source(loud, replay=False))
        loud.wait_for_subscriber()
        # Else all of it may be read with the news of the connection, and nothing is left to be held back.
        wait_until(subscriber, lambda status: status.connected)
        loud.publish_all(batches(500))
        # In the log, where it stays: a reader of `status` may come when the engine is within its budget again.
        wait_for(lambda: "frames a second" in caplog.text, lambda: subscriber.status()[ENGINE])
        assert seconds_until_applied(subscriber, clock, 499) > 0.99  # 400 beyond the burst, at 400 a second
        assert index.trust(ENGINE) is Trust.EXACT


def seconds_until_applied(subscriber: Subscriber, clock: Clock, number: int) -> float:
    """
    Let time pass until a number is applied; how much it took.
    """
    begin = clock.now

    def is_applied() -> bool:
        clock.now += 0.01
        return subscriber.status()[ENGINE].applied == number

    wait_for(is_applied, lambda: subscriber.status()[ENGINE])
    return clock.now - begin


def test_an_answer_is_read_no_faster_than_its_budget() -> None:
    """A replay beyond the budget waits as live frames do, and loses nothing."""
    clock, options = Clock(), replace(QUICK, frames_per_s=400.0, frames_burst=100)
    with (
        ScriptedPublisher() as engine,
        Index() as index,
        Subscriber(index, options, clock=clock) as subscriber,
    ):
        engine.publish_all(batches(500))
        subscriber.add(source(engine))
        wait_until(subscriber, lambda status: status.applied == 99)
        assert seconds_until_applied(subscriber, clock, 499) > 0.99  # 400 beyond the burst, at 400 a second
        assert index.trust(ENGINE) is Trust.EXACT


def test_a_question_that_nobody_answers_any_more_is_closed() -> None:
    """Its time runs out while the engine is away: nothing follows from that, but others may ask in its place."""
    clock, options = Clock(), replace(QUICK, sequence=SequenceOptions(replay_timeout_s=1.0, probe_idle_s=NEVER_S))
    with (
        ScriptedPublisher() as engine,
        Index() as index,
        Subscriber(index, options, clock=clock) as subscriber,
    ):
        engine.silent = True
        engine.publish(batch(0))
        subscriber.add(source(engine))
        wait_for(lambda: engine.asked, lambda: subscriber.status()[ENGINE])
        assert subscriber._turns.open == 1

        def away() -> Iterator[None]:
            wait_until(subscriber, lambda status: not status.connected)
            clock.now += 2.0
            wait_for(lambda: subscriber._turns.open == 0, lambda: subscriber)
            yield

        engine.drop_connections(down=away())
        assert engine.asked == [0]


def test_an_answer_that_we_hold_back_is_not_late() -> None:
    """While the budget is spent it is we who do not read: the replay is not asked for again, nor given up."""
    sequence = SequenceOptions(replay_timeout_s=0.2, probe_idle_s=NEVER_S)
    clock, options = Clock(), replace(QUICK, frames_per_s=2.0, frames_burst=5, sequence=sequence)
    with (
        ScriptedPublisher() as engine,
        Index() as index,
        Subscriber(index, options, clock=clock) as subscriber,
    ):
        engine.publish_all(batches(8))
        subscriber.add(source(engine))
        wait_until(subscriber, lambda status: status.applied == 4)
        for _ in range(14):
            clock.now += 0.15
            wait_for(lambda: subscriber._ticked_at == clock.now, lambda: subscriber)
        wait_until(subscriber, lambda status: status.applied == 7)
        assert engine.asked == [0]
        assert index.trust(ENGINE) is Trust.EXACT


def test_more_replays_than_slots_take_turns() -> None:
    """Engines beyond `replays_max` wait for a slot, and all are caught up."""
    publishers = [ScriptedPublisher() for _ in range(6)]
    options = replace(QUICK, replays_max=2)
    try:
        with Index() as index, Subscriber(index, options) as subscriber:
            for place, publisher in enumerate(publishers):
                publisher.publish_all(batches(5))
                subscriber.add(source(publisher, Engine("pod", place)))
            for place in range(len(publishers)):
                wait_until(subscriber, lambda status: status.applied == 4, Engine("pod", place))
                assert held(index, Engine("pod", place)) == holds(5)
    finally:
        for publisher in publishers:
            publisher.close()


def test_probes_are_spread_over_the_fleet() -> None:
    """With fewer probes allowed than engines, each gets its turn in time."""
    publishers = [ScriptedPublisher() for _ in range(5)]
    options = replace(QUICK, probes_per_s=20.0, sequence=SequenceOptions(replay_timeout_s=NEVER_S, probe_idle_s=0.2))
    try:
        with Index() as index, Subscriber(index, options) as subscriber:
            for place, publisher in enumerate(publishers):
                subscriber.add(source(publisher, Engine("pod", place)))
            for publisher in publishers:
                publisher.wait_for_subscriber()
                publisher.publish(batch(0), live=False)
            for place in range(len(publishers)):
                wait_until(subscriber, lambda status: status.applied == 0, Engine("pod", place))
    finally:
        for publisher in publishers:
            publisher.close()


@pytest.mark.skipif(not DESCRIPTORS.exists(), reason="descriptors are counted in /proc")
def test_nothing_is_left_behind() -> None:
    """Closing ends the thread and gives every descriptor back, in the midst of retries and replays."""
    dead = f"tcp://127.0.0.1:{free_ports(1)}"
    with ScriptedPublisher() as publisher, Index() as index:
        publisher.silent = True

        def once() -> None:
            with Subscriber(index, QUICK) as subscriber:
                subscriber.add(source(publisher))
                subscriber.add(Source(OTHER, MODEL, dead))
                wait_until(subscriber, lambda status: status.state == "replaying")
                wait_until(subscriber, lambda status: status.error is not None, OTHER)

        once()  # what is opened once for good, is opened now
        wait_for(lambda: publisher.asked, lambda: publisher)
        threads, before = threading.active_count(), descriptors()
        for _ in range(3):
            once()
        assert threading.active_count() <= threads
        wait_for(lambda: descriptors() <= before + 2, descriptors)


def test_a_closed_subscriber_is_closed_for_good() -> None:
    """Closing twice is fine; adding or starting again is the caller's mistake."""
    with Index() as index:
        subscriber = Subscriber(index, SubscriberOptions())
        subscriber.add(Source(ENGINE, MODEL, "tcp://127.0.0.1:1"))
        subscriber.close()
        subscriber.close()
        with pytest.raises(ClosedError):
            subscriber.add(Source(ENGINE, MODEL, "tcp://127.0.0.1:1"))
        with pytest.raises(ClosedError):
            subscriber.start()


def test_the_repr_is_a_line_of_status() -> None:
    """Operators read it."""
    with Index() as index, Subscriber(index, QUICK) as subscriber:
        subscriber.add(Source(ENGINE, MODEL, "tcp://127.0.0.1:1"))
        assert repr(subscriber).startswith("<Subscriber running engines=1 ")


def test_large_frames_do_not_fill_the_queue() -> None:
    """libzmq counts messages: of large ones as many may wait as make up the bytes that are allowed."""
    options = replace(QUICK, queue_frames_max=2_000, queue_bytes_max=4 * MIB)
    payload = bytes(MIB // 4)
    room = room_for(len(payload), options)
    assert room == 16
    with new_context(options) as context, ScriptedPublisher(replay=None) as publisher:
        line = Line(context, source(publisher, replay=False), options, Random(1), room)
        publisher.wait_for_subscriber()
        publisher.publish_all([payload] * 200)
        wait_for(line.has_more, lambda: "nothing came")
        waiting = 0
        time.sleep(0.3)  # libzmq's own thread takes what it may; it tells nobody
        publisher.drop_connections()  # what is neither in our queue nor in the kernel's is lost
        while line.receive_burst(1, 1).total:
            waiting += 1
        line.close()
    assert 0 < waiting <= 100


def test_how_many_may_wait() -> None:
    """A power of two, so that a little larger frame changes nothing; all of small ones, and two of any."""
    options = replace(QUICK, queue_frames_max=2_000, queue_bytes_max=128 * MIB)
    sizes = (1, 128 * MIB // 2_000, 70_000, 130_000, MIB, 65 * MIB, 1 << 40)
    assert [room_for(size, options) for size in sizes] == [2_000, 2_000, 1_024, 1_024, 128, 2, 2]


@pytest.mark.parametrize("has_replay", [True, False])
def test_after_a_large_frame_the_stream_goes_on(*, has_replay: bool) -> None:
    """
    The line is opened again with less room, if a replay can prove what comes then; nothing is lost, and no heartbeat is
    needed to get it going.
    """
    options = replace(QUICK, queue_bytes_max=MIB, heartbeat_s=None)
    with Index() as index, ScriptedPublisher() as publisher, Subscriber(index, options) as followed:
        followed.add(source(publisher, replay=has_replay))
        publisher.wait_for_subscriber()
        publisher.publish(batch(0))
        wait_until(followed, lambda status: status.applied == 0)
        publisher.publish(large_batch(1))
        wait_until(followed, lambda status: status.applied == 1 and status.reconnects == has_replay)
        publisher.wait_for_subscriber()
        for number in range(2, 20):
            publisher.publish(batch(number))
            wait_until(followed, partial(has_applied, number))
        assert (held(index), index.trust(ENGINE)) == (holds(20), Trust.EXACT)


def test_frames_that_wait_are_bounded_without_a_replay_too() -> None:
    """Where more has come than is read at once, the line is opened again, and the record is doubted."""
    options = replace(QUICK, queue_bytes_max=MIB, burst_bytes=1, heartbeat_s=None)
    with Index() as index, ScriptedPublisher() as publisher, Subscriber(index, options) as followed:
        followed.add(source(publisher, replay=False))
        publisher.wait_for_subscriber()
        publisher.publish(large_batch(0))
        wait_until(followed, lambda status: status.reconnects == 1)
        publisher.wait_for_subscriber()
        publisher.publish(batch(1))
        wait_until(followed, lambda status: status.applied == 1)
        assert (held(index), index.trust(ENGINE)) == (holds(2), Trust.STALE)


def test_an_answer_with_a_large_frame_is_read_to_its_end() -> None:
    """It is asked on from there with less room, as often as frames grow; no heartbeat is needed to get it going."""
    options = replace(QUICK, queue_bytes_max=MIB, heartbeat_s=None)
    with Index() as index, ScriptedPublisher() as publisher, Subscriber(index, options) as followed:
        for number in range(100):
            publisher.publish(large_batch(number, 1_000 + 100 * number) if number % 20 == 10 else batch(number))
        followed.add(source(publisher))
        wait_until(followed, lambda status: status.applied == 99 and status.state == "live")
        assert (held(index), index.trust(ENGINE)) == (holds(100), Trust.EXACT)
        assert followed.status()[ENGINE].replays > 1


def has_applied(number: int, status: StreamStatus) -> bool:
    """Whether an engine is as far as this."""
    return status.applied == number


def large_batch(number: int, times: int = 4_000) -> bytes:
    """What `batch` tells, so many times over."""
    tokens = tuple(range(number * BLOCK, (number + 1) * BLOCK))
    return encode_batch([Stored((number + 1,), number or None, tokens, BLOCK)] * times, ts=float(number))


@pytest.mark.weighs
def test_small_frames_that_wait_take_little_memory() -> None:
    """A queue of frames that came one by one takes about what they hold, not the buffers that they were read into."""
    frames, payload = 1_000, bytes(200)
    with new_context(QUICK) as context, ScriptedPublisher(replay=None) as publisher:
        line = Line(context, source(publisher, replay=False), QUICK, Random(1), QUICK.queue_frames_max)
        publisher.wait_for_subscriber()
        before = resident_bytes()
        for _ in range(frames):
            publisher.publish(payload)
            time.sleep(0.000_2)  # so that each is read by itself
        time.sleep(0.1)
        grown = resident_bytes() - before
        line.close()
    assert grown < frames * 4_096


def resident_bytes() -> int:
    """The memory that this process has."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4_096


@pytest.mark.parametrize("where", ["limit", "note", "receive_burst", "news"])
def test_a_fault_of_ours_ends_one_engine_only(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """What must not happen is told at the engine that it happened to; the others are followed on."""
    other, sound = Engine("other"), getattr(Line, where)
    with Index() as index, ScriptedPublisher() as one, ScriptedPublisher() as two, Subscriber(index, QUICK) as followed:

        def broken(line: Line, *arguments: int) -> object:
            if line is followed._links[ENGINE]._line:
                raise RuntimeError("a fault")
            return sound(line, *arguments)

        followed.add(source(one))
        followed.add(source(two, other))
        wait_until(followed, lambda status: status.connected)
        wait_until(followed, lambda status: status.connected, other)
        monkeypatch.setattr(Line, where, broken)
        one.publish(batch(0))
        one.restart()  # news, too
        wait_until(followed, lambda status: status.state == "failed")
        two.publish(batch(0))
        wait_until(followed, lambda status: status.applied == 0, other)
        assert "internal error" in str(followed.status()[ENGINE].error)
