"""The demo's planned traffic."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from kvsync.demo.traffic import Conversation, Person, TrafficOptions, count_turns, plan_traffic

OPTIONS = TrafficOptions(seconds=20, people=12, assistants=4, seed=7)


def conversations(people: tuple[Person, ...]) -> list[Conversation]:
    """All of them, person by person."""
    return [conversation for person in people for conversation in person]


def test_the_plan_is_the_seeds() -> None:
    """Equal options plan equal traffic, another seed plans other traffic."""
    assert plan_traffic(OPTIONS) == plan_traffic(OPTIONS)
    assert plan_traffic(OPTIONS) != plan_traffic(replace(OPTIONS, seed=8))


def test_a_longer_run_begins_as_the_shorter() -> None:
    """More seconds add turns at the end of each person's run and change none before it."""
    short = [[turn for talk in person for turn in talk.turns] for person in plan_traffic(OPTIONS)]
    long = [[turn for talk in person for turn in talk.turns] for person in plan_traffic(replace(OPTIONS, seconds=40))]
    assert all(after[: len(before)] == before for before, after in zip(short, long, strict=True))
    assert sum(map(len, long)) > sum(map(len, short))


def test_system_prompts_are_shared_and_of_the_length_asked_for() -> None:
    """Several conversations begin with the same system prompt, and there are no more than assistants."""
    systems = [conversation.system for conversation in conversations(plan_traffic(OPTIONS))]
    assert 1 < len(set(systems)) <= OPTIONS.assistants < len(systems)
    assert {len(system) for system in systems} == {OPTIONS.system_length}


def test_turns_keep_to_their_bounds() -> None:
    """Times rise within the run, with a pause to think between; questions and answers are as long as allowed."""
    for person in plan_traffic(OPTIONS):
        turns = [turn for conversation in person for turn in conversation.turns]
        times = [turn.at_s for turn in turns]
        assert all(later - earlier >= OPTIONS.think_s[0] - 0.002 for earlier, later in pairwise(times))
        assert all(0 <= time < OPTIONS.seconds for time in times)
        for turn in turns:
            assert OPTIONS.question_length[0] <= len(turn.question) <= OPTIONS.question_length[1]
            assert OPTIONS.answer_length[0] <= turn.answer_tokens <= OPTIONS.answer_length[1]


def test_a_token_is_a_character() -> None:
    """All text is ASCII, so lengths in characters are lengths in tokens."""
    for conversation in conversations(plan_traffic(OPTIONS)):
        assert conversation.system.isascii()
        assert all(turn.question.isascii() for turn in conversation.turns)


def test_no_run_is_too_short_to_ask() -> None:
    """Somebody asks at once, whatever the seed."""
    for seed in range(5):
        [person] = plan_traffic(TrafficOptions(seconds=0.1, people=1, assistants=2, seed=seed))
        assert [turn.at_s for conversation in person for turn in conversation.turns] == [0.0]


def test_the_default_demo_asks_well_over_two_hundred_times() -> None:
    """Twenty seconds of the default fleet's people make at least twice the requests a verdict needs."""
    assert count_turns(plan_traffic(TrafficOptions(seconds=20, people=64, assistants=12))) >= 400
