"""What engines have to do for our requests, as time passes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvsync.routing.candidate import IDLE, Load
from kvsync.routing.load import EXPIRY_ADVISED, EXPIRY_OBSERVED, Loads
from kvsync.types import Engine

A, B = Engine("a"), Engine("b")
RATE = 1_000.0


def test_a_queue_drains_with_time() -> None:
    """Prefill that was sent is computed at the rate; the request waits until its first token is seen."""
    loads = Loads()
    loads.begin(A, 500, 0.0, rate=RATE)
    assert loads.load(A, 0.0, rate=RATE) == Load(500, 1, 0)
    assert loads.load(A, 0.2, rate=RATE).queued_tokens == pytest.approx(300)
    assert loads.load(A, 9.0, rate=RATE) == Load(0, 1, 0)


def test_queues_are_apart() -> None:
    """One engine's work is not another's."""
    loads = Loads()
    loads.begin(A, 500, 0.0, rate=RATE)
    assert loads.load(B, 0.0, rate=RATE) == IDLE


def test_idle_time_is_not_saved_up() -> None:
    """Time that passed before a request was sent computes nothing of it."""
    loads = Loads()
    loads.finish(loads.begin(A, 100, 0.0, rate=RATE))
    loads.begin(A, 500, 100.0, rate=RATE)
    assert loads.load(A, 100.0, rate=RATE).queued_tokens == 500


def test_a_first_token_ends_its_prefill_and_those_before_it() -> None:
    """Engines prefill in order, so an earlier one that we still counted is done as well."""
    loads = Loads()
    loads.begin(A, 500, 0.0, rate=RATE)
    second = loads.begin(A, 500, 0.0, rate=RATE)
    loads.begin(A, 500, 0.0, rate=RATE)
    loads.first_token(second, 0.1)
    assert loads.load(A, 0.1, rate=RATE) == Load(500, 2, 1)


def test_a_finished_request_is_gone() -> None:
    """Nothing is left of it, and finishing it again is no error."""
    loads = Loads()
    ticket = loads.begin(A, 500, 0.0, rate=RATE)
    loads.finish(ticket)
    loads.finish(ticket)
    assert loads.load(A, 0.0, rate=RATE) == IDLE


def test_service_time_begins_when_the_engine_was_free() -> None:
    """The time spent in the queue is the earlier request's, not this one's."""
    loads = Loads()
    first, second = loads.begin(A, 500, 0.0, rate=RATE), loads.begin(A, 500, 0.1, rate=RATE)
    assert loads.service_seconds(first) is None
    loads.first_token(first, 0.5)
    loads.first_token(second, 1.1)
    assert loads.service_seconds(first) == pytest.approx(0.5)
    assert loads.service_seconds(second) == pytest.approx(0.6)


def test_the_first_of_several_first_tokens_counts() -> None:
    """Every piece of an answer may be reported; only the first says anything."""
    loads = Loads()
    ticket = loads.begin(A, 500, 0.0, rate=RATE)
    loads.first_token(ticket, 0.5)
    loads.first_token(ticket, 5.0)
    assert loads.service_seconds(ticket) == pytest.approx(0.5)


def test_an_advised_request_runs_once_its_prefill_has_drained() -> None:
    """Nobody reports its first token, so time does; it is forgotten soon after."""
    loads = Loads()
    loads.begin(A, 500, 0.0, rate=RATE, observed=False)
    assert loads.load(A, 0.4, rate=RATE).waiting == 1
    assert loads.load(A, 0.6, rate=RATE) == Load(0, 0, 1)
    assert loads.load(A, EXPIRY_ADVISED, rate=RATE) == IDLE


def test_a_request_that_nobody_ends_expires() -> None:
    """A lost report does not make an engine look busy for ever."""
    loads = Loads()
    ticket = loads.begin(A, 500, 0.0, rate=RATE)
    assert loads.load(A, EXPIRY_OBSERVED - 1, rate=RATE).requests == 1
    assert loads.load(A, EXPIRY_OBSERVED, rate=RATE) == IDLE
    loads.first_token(ticket, EXPIRY_OBSERVED)
    loads.finish(ticket)


def test_a_forgotten_engine_has_nothing_to_do() -> None:
    """Its tickets mean nothing any more."""
    loads = Loads()
    ticket = loads.begin(A, 500, 0.0, rate=RATE)
    loads.forget(A)
    loads.forget(B)
    loads.first_token(ticket, 1.0)
    loads.finish(ticket)
    assert loads.load(A, 1.0, rate=RATE) == IDLE


@given(st.lists(st.tuples(st.sampled_from("bfeg"), st.integers(0, 20), st.floats(0, 2)), max_size=60))
def test_load_is_never_negative_and_ends_at_nothing(steps: list[tuple[str, int, float]]) -> None:
    """Through any history the figures stay sound, and when all requests are over nothing is left."""
    loads, now, tickets = Loads(), 0.0, [-1]
    for what, number, passed in steps:
        now += passed
        ticket = tickets[number % len(tickets)]
        if what == "b":
            tickets.append(loads.begin(A, number * 50, now, rate=RATE, observed=bool(number % 3)))
        elif what == "f":
            loads.first_token(ticket, now)
        elif what == "e":
            loads.finish(ticket)
        load = loads.load(A, now, rate=RATE)
        assert load.queued_tokens >= 0
        assert load.waiting >= 0
        assert load.running >= 0
        assert load.queued_tokens <= 50 * 20 * load.waiting
    for ticket in tickets:
        loads.finish(ticket)
    assert loads.load(A, now, rate=RATE) == IDLE
