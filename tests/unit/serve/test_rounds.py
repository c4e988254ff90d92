"""When the pods of a fleet are asked for their models."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from random import Random

from kvsync.fleet import Pod
from kvsync.serve.rounds import ASK_AGAIN_S, ASK_ANEW_S, ASKED_AT_ONCE, ASKED_PER_S, Rounds

POD = Pod("a", "http://h", "llama")
MANY = [replace(POD, name=f"p{number}") for number in range(1_000)]
LOOK_S = 0.2


def asked(seconds: float) -> list[list[str]]:
    """Names asked at each look at a large fleet whose pods answer at once."""
    rounds = Rounds(Random(1))
    looks = []
    for look in range(round(seconds / LOOK_S)):
        now = look * LOOK_S
        due = rounds.due(MANY, now)
        looks.append([pod.name for pod in due])
        for pod in due:
            assert rounds.answered(pod, now)
    return looks


def test_new_ones_are_asked_a_few_at_a_time() -> None:
    """Each once, as soon as may be."""
    first = len(MANY) // ASKED_AT_ONCE
    looks = asked(10.0)
    assert [len(names) for names in looks] == [ASKED_AT_ONCE] * first + [0] * (len(looks) - first)
    assert Counter(name for names in looks for name in names) == dict.fromkeys((pod.name for pod in MANY), 1)


def test_later_rounds_are_spread() -> None:
    """Within a few rounds the burst of the beginning is gone, nobody is left out, and the rate is what it should be."""
    round_s = len(MANY) / ASKED_PER_S
    later = asked(10 * round_s)[round(5 * round_s / LOOK_S) :]
    times = Counter(name for names in later for name in names)
    assert len(times) == len(MANY)
    assert set(times.values()) <= {4, 5, 6}
    assert max(map(len, later)) < ASKED_AT_ONCE / 2


def test_a_small_fleet_is_asked_every_quarter_of_a_minute() -> None:
    """And one that does not answer, sooner."""
    rounds = Rounds(Random(1))
    assert rounds.due([POD], 0.0) == [POD]
    assert rounds.due([POD], ASK_AGAIN_S - 0.1) == []
    assert rounds.due([POD], ASK_AGAIN_S) == [POD]
    assert rounds.answered(POD, 6.0)
    assert rounds.due([POD], 6.0 + 0.79 * ASK_ANEW_S) == []
    assert rounds.due([POD], 6.0 + 1.21 * ASK_ANEW_S) == [POD]


def test_one_that_began_anew_is_asked_anew() -> None:
    """At another address, as another pod of the name or after a restart; what the one before answers is nobody's."""
    rounds = Rounds(Random(1))
    rounds.due([POD], 0.0)
    for other in (replace(POD, http="http://i"), replace(POD, uid="2"), replace(POD, life="2")):
        rounds.keep_only([other])
        assert not rounds.answered(POD, 0.0)
        assert rounds.due([other], 0.0) == [other]
