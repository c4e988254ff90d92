"""What is made of a monitor's words."""

from __future__ import annotations

import pytest
import zmq

from kvsync.stream.connection import (
    DOWN,
    GIVEN_UP_S,
    HUNG_UP,
    MISMATCH,
    MONITOR_EVENT,
    RETRIED,
    UP,
    Connection,
    event_of,
    refusal,
)


def told(*events: int) -> Connection:
    """A connection that heard these at time 0."""
    connection = Connection()
    for event in events:
        connection.take(event, 0.0)
    return connection


@pytest.mark.parametrize(
    ("events", "is_given_up", "was_up"),
    [
        ((), False, False),
        ((UP,), False, True),
        ((UP, DOWN), True, True),
        ((UP, DOWN, RETRIED), False, True),
        ((UP, DOWN, RETRIED, UP), False, True),
        ((UP, UP, DOWN), False, True),
        ((HUNG_UP,), True, False),
        ((UP, DOWN, RETRIED, MISMATCH), True, False),
    ],
)
def test_a_loss_without_a_retry_is_the_end(events: tuple[int, ...], is_given_up: bool, was_up: bool) -> None:
    """After a moment; of a bound socket, once its last connection is lost."""
    connection = told(*events)
    assert not connection.is_given_up(GIVEN_UP_S - 0.01)
    assert (connection.is_given_up(GIVEN_UP_S), connection.was_up) == (is_given_up, was_up)


def test_a_mismatch_of_encryption_is_told_from_other_refusals() -> None:
    """libzmq gives it as the value of an event that others share."""
    refused = int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL)
    assert event_of(MONITOR_EVENT.pack(refused, int(zmq.PROTOCOL_ERROR_ZMTP_MECHANISM_MISMATCH))) == MISMATCH
    assert event_of(MONITOR_EVENT.pack(refused, 7)) == refused
    assert event_of(MONITOR_EVENT.pack(UP, 7)) == UP


@pytest.mark.parametrize(
    ("event", "is_curve", "said"),
    [
        (MISMATCH, False, "wants CURVE, and we have no key"),
        (MISMATCH, True, "does not use CURVE, and we do"),
        (HUNG_UP, True, "has another CURVE key than ours: compare the key files"),
        (HUNG_UP, False, "hung up: is it the events port, and does it want CURVE?"),
        (int(zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL), False, "does not speak ZeroMQ's protocol: is it the events port?"),
    ],
)
def test_a_refusal_says_why(event: int, is_curve: bool, said: str) -> None:
    """With the endpoint and what to look at."""
    assert refusal(event, "tcp://h:1", is_curve=is_curve) == f"tcp://h:1 {said}"
