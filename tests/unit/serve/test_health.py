"""Which pods may get requests."""

from __future__ import annotations

import pytest

from kvsync.serve.health import (
    EVENTS_LOST,
    EVENTS_LOST_ALIVE,
    FAILURES_MAX,
    NOT_READY,
    NOT_SEEN,
    NOT_SERVING,
    PROBE_EVERY,
    Health,
)


@pytest.fixture
def health() -> Health:
    """One pod that was just added."""
    made = Health()
    made.add("a", 0.0)
    return made


def test_a_new_pod_is_down_until_it_is_seen_alive(health: Health) -> None:
    """It is probed at once, and what the probe says counts."""
    assert not health.is_up("a")
    assert health.due(0.0) == ["a"]
    health.answered("a", "HTTP does not answer", 0.1)
    assert not health.is_up("a")
    assert health.due(PROBE_EVERY) == ["a"]
    health.answered("a", None, 0.6)
    assert (health.is_up("a"), health.state("a").reason) == (True, None)


def test_a_pod_without_event_connection_is_probed_for_ever(health: Health) -> None:
    """Nothing else would tell that it died; one late answer is no death."""
    health.answered("a", None, 0.1)
    for number in range(FAILURES_MAX):
        assert health.is_up("a")
        assert health.due(1.0 + number) == ["a"]
        health.answered("a", "HTTP does not answer", 1.1 + number)
    assert not health.is_up("a")


def test_a_pod_that_nobody_added_is_not_up(health: Health) -> None:
    """Nor is one that was removed."""
    assert not health.is_up("b")
    health.remove("a")
    health.remove("a")
    assert not health.is_up("a")


def test_events_that_never_connected_say_nothing(health: Health) -> None:
    """They may be misconfigured while the pod serves."""
    health.answered("a", None, 0.5)
    health.events("a", [False], 1.0)
    assert health.is_up("a")


def test_losing_the_event_connection_takes_a_pod_down_at_once(health: Health) -> None:
    """And has it probed at once, then again and again."""
    health.events("a", [True], 1.0)
    health.events("a", [False], 2.0)
    assert not health.is_up("a")
    assert (health.state("a").reason, health.state("a").since) == (EVENTS_LOST, 2.0)
    assert health.due(2.0) == ["a"]
    assert health.due(2.1) == []
    assert health.due(2.0 + PROBE_EVERY) == ["a"]


def test_losing_one_rank_is_losing_the_connection(health: Health) -> None:
    """Ranks of a pod die together, and a probe will tell."""
    health.events("a", [True, True], 1.0)
    health.events("a", [True, False], 2.0)
    assert not health.is_up("a")


def test_a_probe_that_is_answered_brings_it_back_under_watch(health: Health) -> None:
    """Its HTTP port serves; while the events stay lost, every probe counts."""
    health.events("a", [True], 1.0)
    health.events("a", [False], 2.0)
    health.answered("a", None, 2.1)
    assert (health.is_up("a"), health.state("a").reason) == (True, EVENTS_LOST_ALIVE)
    assert health.due(3.0) == ["a"]
    health.answered("a", "HTTP does not answer", 3.1)
    assert not health.is_up("a")
    assert "HTTP does not answer" in (health.state("a").reason or "")


def test_events_that_come_back_bring_the_pod_back(health: Health) -> None:
    """Then it is probed no more."""
    health.events("a", [True], 1.0)
    health.events("a", [False], 2.0)
    health.events("a", [True], 3.0)
    assert health.is_up("a")
    assert health.state("a").reason is None
    assert health.due(9.0) == []


def test_a_refused_request_takes_a_pod_down_until_a_probe_is_answered(health: Health) -> None:
    """Standing events do not bring it back: HTTP was what failed."""
    health.events("a", [True], 1.0)
    health.refused("a", "refused", 2.0)
    health.events("a", [True], 2.2)
    assert not health.is_up("a")
    assert health.due(2.2) == []
    assert health.due(2.0 + PROBE_EVERY) == ["a"]
    health.answered("a", None, 2.6)
    assert health.is_up("a")
    assert health.due(9.0) == []


def test_a_late_answer_changes_nothing(health: Health) -> None:
    """A probe of a pod that is up, or gone, is no news."""
    health.events("a", [True], 0.5)
    health.answered("a", "HTTP does not answer", 1.0)
    health.answered("b", None, 1.0)
    health.refused("b", "refused", 1.0)
    assert health.is_up("a")
    assert not health.is_up("b")


def test_one_that_sleeps_gets_no_requests(health: Health) -> None:
    """It lives, so it is not probed; awake again, it is up at once."""
    health.events("a", [True], 1.0)
    health.serves("a", is_serving=False, now=2.0)
    state = health.state("a")
    assert (health.is_up("a"), state.reason, state.since) == (False, NOT_SERVING, 2.0)
    assert health.due(9.0) == []
    health.serves("a", is_serving=True, now=3.0)
    assert (health.is_up("a"), state.reason, state.since) == (True, None, 3.0)
    health.serves("b", is_serving=False, now=3.0)


def test_one_that_died_asleep_is_down_for_that(health: Health) -> None:
    """What is the matter is said, the graver first."""
    health.serves("a", is_serving=False, now=1.0)
    assert health.state("a").reason == NOT_SEEN


def test_a_pod_that_is_not_ready_is_not_up() -> None:
    """Whatever its connection and its answers say; once it is ready again they count at once."""
    health = Health()
    health.add("a", 0.0)
    health.events("a", [True], 1.0)
    health.set_ready("a", is_ready=False, now=2.0)
    health.answered("a", None, 3.0)
    assert (health.is_up("a"), health.state("a").reason, health.state("a").since) == (False, NOT_READY, 2.0)
    health.set_ready("a", is_ready=True, now=4.0)
    assert (health.is_up("a"), health.state("a").since) == (True, 4.0)
