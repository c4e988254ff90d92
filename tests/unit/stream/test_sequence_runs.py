"""Live messages that the core follows leave the same behind as those told one after the other, whatever was before."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from collections.abc import Sequence as Seq
from random import Random
from typing import Any

import pytest

from kvsync.stream.frames import LIVE_FRAMES, NUMBER_MAX, PUB, REPLAY, Frames, number_frame
from kvsync.stream.instructions import Apply, Instruction
from kvsync.stream.options import SequenceOptions
from kvsync.stream.sequence import Replay, Sequence, feed

STEPS = 300
SEEDS = range(20)
NO_NUMBER = number_frame(NUMBER_MAX + 1)
OPTIONS = SequenceOptions(replay_timeout_s=2.0, probe_idle_s=10.0, waiting_frames_max=6, digests_max=8)


def message(number: int, life: int) -> Frames:
    """A batch that no other number and no other life has."""
    return [b"topic", number_frame(number), f"{life}:{number}".encode()]


def run_length(messages: Seq[Frames], number: int | None) -> int:
    """How many messages, from the first on, carry this number and those that follow it: as the core finds out."""
    if number is None:
        return 0
    for count, frames in enumerate(messages):
        if len(frames) != LIVE_FRAMES or frames[1] != number_frame(number + count) or number + count > NUMBER_MAX:
            return count
    return len(messages)


def follow(sequence: Sequence, messages: Seq[Frames], now: float) -> int:
    """Tell a sequence of the messages that the core would apply by itself; how many they are."""
    if count := run_length(messages, sequence.awaited):
        sequence.follow(count, messages[count - 1][-1], now)
    return count


class Twins:
    """
    Two sequences that are told the same: `single` message by message, `runs` with what the core follows by itself.
    """

    def __init__(self, seed: int, replay: Replay) -> None:
        self.rng = Random(seed)
        self.single, self.runs = Sequence(OPTIONS, replay=replay), Sequence(OPTIONS, replay=replay)
        self.now = 0.0
        self.life = self.next = self.taken_in_runs = 0
        self.answer: deque[Frames] = deque()

    def step(self) -> None:
        """Tell both the next thing, and hold what came of it side by side."""
        acts: list[Callable[[], None]] = [self.burst, self.replay, self.pass_time, self.connect, self.trouble]
        self.rng.choices(acts, weights=[60, 30, 5, 3, 6])[0]()
        assert facts(self.single) == facts(self.runs)

    def burst(self) -> None:
        """Live messages that came together, most of them in order."""
        messages = [self.live_message() for _ in range(self.rng.randint(1, 8))]
        expected = [told for one in messages for told in feed(self.single, PUB, one, self.now)]
        told: list[Instruction] = []
        while messages:
            count = follow(self.runs, messages, self.now)
            self.taken_in_runs += count
            if count:
                assert self.runs.applied is not None
                first = self.runs.applied + 1 - count
                told += [Apply(number, frames[-1]) for number, frames in enumerate(messages[:count], first)]
            else:
                told += feed(self.runs, PUB, messages[0], self.now)
            del messages[: count or 1]
        assert told == expected

    def live_message(self) -> Frames:
        """Mostly the next; now and then one is lost, comes twice, is broken, or is of a new life."""
        odd = self.rng.random()
        if odd < 0.01:
            number = number_frame(self.next)
            cut, longer = [b"topic", number], [b"topic", number, b"x", b"y"]
            return self.rng.choice([cut, longer, [b"topic", number[1:], b"x"], [b"topic", NO_NUMBER, b"x"]])
        if odd < 0.02:
            self.life, self.next = self.life + 1, self.rng.choice([0, self.next])
        elif odd < 0.04:
            self.next += self.rng.randint(1, 3)
        elif odd < 0.05:
            self.next = max(0, self.next - self.rng.randint(1, 3))
        self.next += 1
        return message(self.next - 1, self.life)

    def replay(self) -> None:
        """A part of the answer to what was asked, which may have a hole, or end before its end."""
        start = self.single.asked
        if not self.answer and (start is not None or self.single.state == "live"):
            # It may run ahead of the live messages, which then come late.
            ahead = self.rng.choice([0, 0, 1, 5])
            numbers = range(max(0, self.rng.choice([start or 0, self.next - 4])), self.next + ahead)
            self.answer.extend(message(number, self.life) for number in numbers if self.rng.random() < 0.9)
            self.answer.append([b"", b"\xff" * 8, b""])
        for _ in range(min(len(self.answer), self.rng.randint(1, 12))):
            one = self.answer.popleft()
            assert feed(self.single, REPLAY, one, self.now) == feed(self.runs, REPLAY, one, self.now)

    def pass_time(self) -> None:
        """Let time pass; what is overdue is given up, who is silent is probed."""
        self.now += self.rng.choice([0.1, 1.0, 6.0])
        self.both("tick", self.now)

    def connect(self) -> None:
        """The connection ends and comes back, perhaps with messages of the old one unread."""
        self.both("disconnect")
        unread = self.rng.choice([0, 0, 3])
        assert self.single.connect(self.now, unread=unread) == self.runs.connect(self.now, unread=unread)

    def trouble(self) -> None:
        """What the sockets can report beside messages."""
        name = self.rng.choice(["oversize", "oversize_replayed", "replay_failed", "replay_sent"])
        self.both(name, *([] if name == "oversize" else [self.now]))

    def both(self, name: str, *arguments: Any) -> None:
        """Call the same of both."""
        assert getattr(self.single, name)(*arguments) == getattr(self.runs, name)(*arguments)


def facts(thing: Any) -> Any:
    """All that an object of ours knows, as plain values: whatever is added to it later is compared too."""
    names = getattr(thing, "__dict__", None)
    if not type(thing).__module__.startswith("kvsync") or names is None:
        return thing
    return {name: facts(value) for name, value in names.items()}


@pytest.mark.parametrize("replay", Replay)
@pytest.mark.parametrize("seed", SEEDS)
def test_a_run_is_the_same_as_one_by_one(seed: int, replay: Replay) -> None:
    """Instructions, counters and all that is remembered are equal after every step."""
    twins = Twins(seed, replay)
    for _ in range(STEPS):
        twins.step()
    assert (twins.taken_in_runs > 0) is (replay is not Replay.GIVEN)


def test_a_steady_stream_is_taken_in_runs() -> None:
    """All messages that follow are one run, and the first that does not ends it."""
    sequence = Sequence(OPTIONS, replay=Replay.NONE)
    sequence.connect(0.0)
    messages = [message(number, 0) for number in (0, 1, 2, 3, 5, 6)]
    assert follow(sequence, messages, 0.0) == 0
    feed(sequence, PUB, messages[0], 0.0)
    assert follow(sequence, messages[1:], 1.0) == 3
    assert (sequence.applied, sequence.live_last, sequence.counters.applied) == (3, 3, 4)
    assert sequence.last_event_at == 1.0
