"""Messages off a socket: by the core and through pyzmq the same, whole and within bounds."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from random import Random

import pytest
import zmq
from tests.integration.stream_helpers import ENGINE, MODEL, QUICK, batch, source, wait_until

from kvsync._core import ffi, lib
from kvsync._core._kvsync import __file__ as our_library
from kvsync.index import Index
from kvsync.stream import receiver as module
from kvsync.stream.frames import Frames, number_frame
from kvsync.stream.lane import Followed, Lane, Socket
from kvsync.stream.receiver import CoreReceiver, PartReceiver, Receiver, find_libzmq, new_receiver
from kvsync.stream.sockets import Line, SocketError, new_context
from kvsync.stream.subscriber import Subscriber
from kvsync.testing.publisher import ScriptedPublisher
from kvsync.types import Trust

RECEIVERS = [
    pytest.param(CoreReceiver, marks=pytest.mark.skipif(find_libzmq() is None, reason="pyzmq shows no libzmq")),
    PartReceiver,
]
MANY = 1_000

Pair = tuple[Socket, Socket]
Taken = tuple[list[Frames], int, int]


@pytest.fixture
def pairs() -> Iterator[list[Pair]]:
    """Sockets that are connected two and two: to send with, and to receive with."""
    with zmq.Context() as context, ExitStack() as stack:
        made = []
        for nth in range(3):
            near, far = (stack.enter_context(context.socket(zmq.PAIR)) for _ in range(2))
            far.set_hwm(0)
            near.set_hwm(0)
            far.bind(f"inproc://receiver-{nth}")
            near.connect(f"inproc://receiver-{nth}")
            made.append((far, near))
        yield made


@pytest.fixture
def pair(pairs: list[Pair]) -> Pair:
    """One of them."""
    return pairs[0]


def send(socket: Socket, *messages: list[bytes]) -> None:
    """Send them all."""
    for message in messages:
        socket.send_multipart(message)


def take(receiver: Receiver, lane: Lane, frames_max: int, bytes_max: int) -> Taken:
    """What one socket gives: messages, the bytes of the largest, and the error that ended it."""
    lane.limit(frames_max, MANY)
    haul = receiver.receive([lane], bytes_max)
    assert haul.count == 1
    assert list(haul.follow(None, 0.0)) == [0]
    (burst,) = haul.bursts([0])
    messages = burst.messages()
    assert (burst.total, burst.size) == (len(messages), sum(len(part) for message in messages for part in message))
    assert burst.is_dry is (burst.error == zmq.EAGAIN)
    return messages, burst.largest, burst.error


@pytest.mark.parametrize("kind", RECEIVERS)
def test_messages_come_whole_and_in_order(pair: Pair, kind: type[Receiver]) -> None:
    """Parts may be empty, and nothing is there until something is sent."""
    receiver, (far, near) = kind(), pair
    lane = receiver.lane_of(near)
    assert take(receiver, lane, 9, 99) == ([], 0, zmq.EAGAIN)
    messages = [[b"topic", b"12345678", b"payload"], [b""], [b"", b"\0\xff"]]
    send(far, *messages)
    assert take(receiver, lane, 9, 99) == (messages, 20, zmq.EAGAIN)
    assert take(receiver, lane, 9, 99) == ([], 0, zmq.EAGAIN)


@pytest.mark.parametrize("kind", RECEIVERS)
def test_bounds(pair: Pair, kind: type[Receiver]) -> None:
    """No more messages than asked for, and none after so many bytes; the others are still there."""
    receiver, (far, near) = kind(), pair
    lane = receiver.lane_of(near)
    send(far, *[[b"ab", b"c"]] * 4)
    assert take(receiver, lane, 0, 99) == ([], 0, 0)
    assert take(receiver, lane, 9, 0) == ([], 0, 0)
    assert take(receiver, lane, 1, 99) == ([[b"ab", b"c"]], 3, 0)
    assert take(receiver, lane, 9, 4) == ([[b"ab", b"c"]] * 2, 3, 0)
    assert take(receiver, lane, 9, 4) == ([[b"ab", b"c"]], 3, zmq.EAGAIN)


@pytest.mark.parametrize("kind", RECEIVERS)
def test_several_sockets_are_read_together(pairs: list[Pair], kind: type[Receiver]) -> None:
    """Each one's messages are its own; once the bytes have come together the rest are left for the next time."""
    receiver = kind()
    lanes = [receiver.lane_of(near) for _, near in pairs]
    for lane in lanes:
        lane.limit(9, MANY)
    for nth, (far, _) in enumerate(pairs):
        send(far, *[[b"%d" % nth, b"x" * 10]] * nth)
    haul = receiver.receive(lanes, 99)
    assert haul.count == len(lanes) == 3
    one, two = haul.bursts([2, 1])
    assert (one.messages(), two.messages()) == ([[b"2", b"x" * 10]] * 2, [[b"1", b"x" * 10]])
    for far, _ in pairs:
        send(far, [b"x" * 10])
    haul = receiver.receive(lanes, 20)
    assert [burst.messages() for burst in haul.bursts(range(haul.count))] == [[[b"x" * 10]]] * 2
    assert [burst.messages() for burst in receiver.receive(lanes[2:], 20).bursts([0])] == [[[b"x" * 10]]]
    assert receiver.receive([], 20).count == 0


@pytest.mark.parametrize("kind", RECEIVERS)
def test_what_was_received_is_ours(pair: Pair, kind: type[Receiver]) -> None:
    """The next burst does not write over it."""
    receiver, (far, near) = kind(), pair
    lane = receiver.lane_of(near)
    send(far, [b"first" * MANY])
    lane.limit(1, MANY)
    (first,) = receiver.receive([lane], 1).bursts([0])
    send(far, [b"other" * MANY])
    take(receiver, lane, 1, 1)
    assert first.messages() == [[b"first" * MANY]]


@pytest.mark.parametrize("kind", RECEIVERS)
def test_what_libzmq_refuses_is_told(kind: type[Receiver]) -> None:
    """A socket that may not be read is not a dry one."""
    receiver = kind()
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket:
        assert take(receiver, receiver.lane_of(socket), 1, 1) == ([], 0, zmq.ENOTSUP)


@pytest.mark.skipif(find_libzmq() is None, reason="pyzmq shows no libzmq")
def test_both_take_the_same(pair: Pair) -> None:
    """Messages of any shape, in bursts of any bounds."""
    rng, (far, near) = Random(7), pair
    for _ in range(50):
        messages = [
            [rng.randbytes(rng.choice((0, 3, 200, 20_000))) for _ in range(rng.randint(1, 5))]
            for _ in range(rng.randint(0, 30))
        ]
        bounds = [(rng.randint(1, 9), rng.randint(1, 9_000)) for _ in range(40)]
        taken = []
        for receiver in (CoreReceiver(), PartReceiver()):
            send(far, *messages)
            lane: Lane = receiver.lane_of(near)
            taken.append([take(receiver, lane, *bound) for bound in bounds])
        assert taken[0] == taken[1]
        assert [message for burst, _, _ in taken[0] for message in burst] == messages


@pytest.mark.skipif(find_libzmq() is None, reason="pyzmq shows no libzmq")
def test_what_follows_goes_into_the_index(pair: Pair) -> None:
    """Of an open lane no batch is to be looked at until one does not follow; closed, it tells what was followed."""
    receiver, (far, near) = CoreReceiver(), pair
    lane = receiver.lane_of(near)
    lane.limit(9, MANY)
    with Index() as index:
        lane.open(index.number_of(ENGINE, MODEL), 0)
        send(far, *[[b"topic", number_frame(number), batch(number)] for number in (0, 1)])
        assert list(receiver.receive([lane], MANY).follow(index, 1.0)) == []
        send(far, *[[b"topic", number_frame(number), batch(number)] for number in (2, 4)])
        haul = receiver.receive([lane], MANY)
        assert list(haul.follow(index, 2.0)) == [0]
        (burst,) = haul.bursts([0])
        assert (burst.total, burst.followed) == (2, 1)
        assert burst.messages() == [[b"topic", number_frame(4), batch(4)]]
        size = sum(len(b"topic" + number_frame(number) + batch(number)) for number in range(3))
        assert lane.close() == Followed(3, size, 2.0, batch(2))
        assert lane.close() is None
        assert (index.record(ENGINE).sequence, index.trust(ENGINE)) == (2, Trust.EXACT)
        send(far, [b"topic", number_frame(3), batch(3)])
        assert list(receiver.receive([lane], MANY).follow(index, 3.0)) == [0]
        assert index.record(ENGINE).sequence == 2


def test_a_library_without_libzmq_is_not_taken_for_it() -> None:
    """One that is not loaded, and one that is and has nothing to do with it."""
    found = ffi.new("kvs_zmq *")
    for path in (b"no-such-library.so", our_library.encode()):
        assert lib.kvs_zmq_find(path, found) == lib.KVS_ERR_ARGUMENT


def test_without_libzmq_pyzmq_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    """What cannot be called is not needed."""
    monkeypatch.setattr(module, "LIBZMQ", None)
    assert isinstance(new_receiver(), PartReceiver)


@pytest.mark.parametrize("missing", ["file", "version"])
def test_libzmq_is_not_called_where_it_may_be_another(monkeypatch: pytest.MonkeyPatch, missing: str) -> None:
    """A backend that is no library, and a libzmq whose messages have another size."""
    if missing == "file":
        monkeypatch.setattr(zmq.backend, "Socket", int)
    else:
        monkeypatch.setattr(zmq, "zmq_version_info", lambda: (4, 0, 9))
    assert find_libzmq() is None


def test_a_subscriber_is_the_same_through_pyzmq(monkeypatch: pytest.MonkeyPatch) -> None:
    """Live frames, a hole and its replay, where the core does not call libzmq."""
    monkeypatch.setattr(module, "LIBZMQ", None)
    with Index() as index, ScriptedPublisher() as publisher, Subscriber(index, QUICK) as followed:
        assert isinstance(followed.context.receiver, PartReceiver)
        followed.add(source(publisher))
        wait_until(followed, lambda status: status.connected)
        publisher.publish_all([batch(number) for number in range(3)])
        wait_until(followed, lambda status: status.applied == 2)
        publisher.publish(batch(3), live=False)
        publisher.publish(batch(4))
        wait_until(followed, lambda status: status.applied == 4)
        assert followed.status()[ENGINE].gaps == 1


def test_a_closed_socket_is_not_read() -> None:
    """Its address is somebody else's memory: libzmq is not asked."""
    with new_context(QUICK) as context, ScriptedPublisher(replay=None) as publisher:
        line = Line(context, source(publisher, replay=False), QUICK, Random(1), MANY)
        line.close()
        with pytest.raises(SocketError):
            line.receive_burst(1, 1)
