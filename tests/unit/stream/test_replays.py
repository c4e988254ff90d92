"""Replays take turns: a limit, an order, and newcomers spread in time."""

from __future__ import annotations

from random import Random

from kvsync.stream.replays import OVERDUE_S, Turns, Urgency
from kvsync.testing.faults.storm import Rollout, rollout

DAEMONS, ENGINES = 20, 64


def turns(slots: int, spread_s: float = 0.0) -> Turns[str]:
    """
    Turns that draw the same lots in every run.
    """
    return Turns(slots, spread_s, Random(1))


def test_no_more_than_the_slots_are_open() -> None:
    """Whoever comes when all slots are taken waits until one is given back."""
    both = turns(1)
    assert both.take("a", Urgency.BEHIND, 0.0)
    assert not both.take("b", Urgency.BEHIND, 0.0)
    both.give_back("a")
    assert both.take("b", Urgency.BEHIND, 0.1)


def test_an_answer_without_end_stands_in_nobodys_way() -> None:
    """A replay that goes on for too long keeps its question but not its slot, and gives nothing back twice."""
    both = turns(1)
    assert both.take("mad", Urgency.FIRST, 0.0)
    assert not both.take("b", Urgency.BEHIND, OVERDUE_S - 0.1)
    assert both.take("b", Urgency.BEHIND, OVERDUE_S)
    assert not both.take("c", Urgency.BEHIND, OVERDUE_S + 0.1)
    both.give_back("mad")
    assert not both.take("c", Urgency.BEHIND, OVERDUE_S + 0.2)
    both.give_back("b")
    assert both.take("c", Urgency.BEHIND, OVERDUE_S + 0.3)


def test_a_record_that_is_behind_goes_first() -> None:
    """A free slot goes to the most urgent, whoever happens to ask first."""
    few = turns(1)
    few.take("open", Urgency.IDLE, 0.0)
    for key, urgency in (("probe", Urgency.IDLE), ("first", Urgency.FIRST), ("behind", Urgency.BEHIND)):
        assert not few.take(key, urgency, 0.0)
    few.give_back("open")
    assert not few.take("probe", Urgency.IDLE, 0.1)
    assert not few.take("first", Urgency.FIRST, 0.1)
    assert few.take("behind", Urgency.BEHIND, 0.1)


def test_the_engine_most_asked_for_goes_first() -> None:
    """Of two that are alike the one that requests are sent to has the turn, then the one that waited longer."""
    few = turns(1)
    few.take("open", Urgency.IDLE, 0.0)
    few.take("older", Urgency.FIRST, 0.0, weight=1)
    few.take("busy", Urgency.FIRST, 0.1, weight=5)
    few.take("younger", Urgency.FIRST, 0.2, weight=1)
    few.give_back("open")
    assert not few.take("younger", Urgency.FIRST, 0.3, weight=1)
    assert not few.take("older", Urgency.FIRST, 0.3, weight=1)
    assert few.take("busy", Urgency.FIRST, 0.3, weight=5)
    few.give_back("busy")
    assert few.take("older", Urgency.FIRST, 0.4, weight=1)


def test_a_first_contact_waits_for_its_moment() -> None:
    """Newcomers are spread over the given time, and a want that turns urgent does not wait for its moment."""
    many = turns(100, spread_s=10.0)
    assert sum(many.take(str(number), Urgency.FIRST, 0.0) for number in range(50)) == 0
    assert many.take("7", Urgency.BEHIND, 0.1)
    waiting = [str(number) for number in range(50) if number != 7]
    granted = sum(many.take(key, Urgency.FIRST, 5.0) for key in waiting)
    assert 10 < granted < 40
    assert many.waiting == 49 - granted


def test_what_is_not_wanted_any_more_stands_in_nobodys_way() -> None:
    """A link that gives up its want leaves its place to others."""
    few = turns(1)
    few.take("open", Urgency.BEHIND, 0.0)
    few.take("gone", Urgency.BEHIND, 0.0)
    few.take("next", Urgency.IDLE, 0.0)
    few.give_back("gone")
    few.give_back("open")
    assert few.take("next", Urgency.IDLE, 0.1)


def test_a_rollout_is_tamed() -> None:
    """Of twenty daemons that begin together about half stand before one engine, and all are served hardly later."""
    wild = rollout(Rollout(DAEMONS, ENGINES, slots=ENGINES, spread_s=0.0))
    tame = rollout(Rollout(DAEMONS, ENGINES, slots=16, spread_s=0.5))
    assert wild.engine_peak == DAEMONS
    assert tame.engine_peak <= 0.6 * DAEMONS
    assert tame.daemon_peak <= 16
    assert tame.seconds <= 1.25 * wild.seconds
