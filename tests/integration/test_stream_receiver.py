"""Messages off a socket: by the core and through pyzmq the same, whole and within bounds."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random

import pytest
import zmq
from tests.integration.stream_helpers import ENGINE, QUICK, batch, source, wait_until

from kvsync._core import ffi, lib
from kvsync._core._kvsync import __file__ as our_library
from kvsync.index import Index
from kvsync.stream import receiver as module
from kvsync.stream.receiver import CoreReceiver, PartReceiver, Receiver, Socket, find_libzmq, new_receiver
from kvsync.stream.sockets import Line, SocketError, new_context
from kvsync.stream.subscriber import Subscriber
from kvsync.testing.publisher import ScriptedPublisher

RECEIVERS = [
    pytest.param(CoreReceiver, marks=pytest.mark.skipif(find_libzmq() is None, reason="pyzmq shows no libzmq")),
    PartReceiver,
]
MANY = 1_000

Pair = tuple[Socket, Socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Two sockets that are connected: to send with, and to receive with."""
    with zmq.Context() as context, context.socket(zmq.PAIR) as near, context.socket(zmq.PAIR) as far:
        far.set_hwm(0)
        near.set_hwm(0)
        far.bind("inproc://receiver")
        near.connect("inproc://receiver")
        yield far, near


def send(socket: Socket, *messages: list[bytes]) -> None:
    """Send them all."""
    for message in messages:
        socket.send_multipart(message)


@pytest.mark.parametrize("kind", RECEIVERS)
def test_messages_come_whole_and_in_order(pair: Pair, kind: type[Receiver]) -> None:
    """Parts may be empty, and nothing is there until something is sent."""
    receiver, (far, near) = kind(), pair
    handle = receiver.handle_of(near)
    assert receiver.receive(handle, 9, 99) == ([], True, 0)
    messages = [[b"topic", b"12345678", b"payload"], [b""], [b"", b"\0\xff"]]
    send(far, *messages)
    assert receiver.receive(handle, 9, 99) == (messages, True, 20)
    assert receiver.receive(handle, 9, 99) == ([], True, 0)


@pytest.mark.parametrize("kind", RECEIVERS)
def test_bounds(pair: Pair, kind: type[Receiver]) -> None:
    """No more messages than asked for, and none after so many bytes; the others are still there."""
    receiver, (far, near) = kind(), pair
    handle = receiver.handle_of(near)
    send(far, *[[b"ab", b"c"]] * 4)
    assert receiver.receive(handle, 0, 99) == ([], False, 0)
    assert receiver.receive(handle, 9, 0) == ([], False, 0)
    assert receiver.receive(handle, 1, 99) == ([[b"ab", b"c"]], False, 3)
    assert receiver.receive(handle, 9, 4) == ([[b"ab", b"c"]] * 2, False, 3)
    assert receiver.receive(handle, 9, 4) == ([[b"ab", b"c"]], True, 3)


@pytest.mark.parametrize("kind", RECEIVERS)
def test_what_was_received_is_ours(pair: Pair, kind: type[Receiver]) -> None:
    """The next burst does not write over it."""
    receiver, (far, near) = kind(), pair
    handle = receiver.handle_of(near)
    send(far, [b"first" * MANY])
    first = receiver.receive(handle, 1, 1).messages
    send(far, [b"other" * MANY])
    receiver.receive(handle, 1, 1)
    assert first == [[b"first" * MANY]]


@pytest.mark.parametrize("kind", RECEIVERS)
def test_what_libzmq_refuses_is_raised(pair: Pair, kind: type[Receiver]) -> None:
    """A socket that may not be read is not a dry one."""
    receiver = kind()
    with zmq.Context() as context, context.socket(zmq.PUSH) as socket, pytest.raises(zmq.ZMQError) as raised:
        receiver.receive(receiver.handle_of(socket), 1, 1)
    assert raised.value.errno == zmq.ENOTSUP


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
            handle = receiver.handle_of(near)
            taken.append([receiver.receive(handle, *bound) for bound in bounds])
        assert taken[0] == taken[1]
        assert [message for burst in taken[0] for message in burst.messages] == messages


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
        line = Line(context, source(publisher, replay=False), QUICK, Random(1))
        line.close()
        with pytest.raises(SocketError):
            line.receive_burst(1, 1)
