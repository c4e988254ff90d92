"""
An engine and a network in one process, with a clock moved by hand: everything `Sequence` can meet, by lot.

The engine publishes numbered batches of a life, keeps the last of them, and answers one replay at a time. The
network loses live batches, ends connections, cuts answers, swallows requests. What is applied is held against
what the lives really were, after every single step:

    balance     every frame is accounted for
    order       numbers applied within one life of the record only rise
    soundness   a record that claims to be exact holds batches of one life only, from 0 on, without a hole
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from kvsync.stream.instructions import Apply, Doubt, Drop, Instruction, RequestReplay, Reset
from kvsync.stream.options import SequenceOptions
from kvsync.stream.sequence import Replay, Sequence


@dataclass(frozen=True, slots=True)
class Faults:
    """How often the network and the engine do harm, as shares of one."""

    live_lost: float = 0.1
    answer_lost: float = 0.05
    end_lost: float = 0.1
    request_lost: float = 0.1
    restart: float = 0.5


NO_FAULTS = Faults(0, 0, 0, 0, 0)


class World:
    """
    One engine, one network, one `Sequence`.
    """

    def __init__(
        self,
        seed: int,
        options: SequenceOptions,
        *,
        faults: Faults,
        buffer_steps: int | None = None,
        replay: Replay = Replay.ASKED,
    ) -> None:
        self.rng = Random(seed)
        self.faults = faults
        self.now = 0.0
        self.sequence = Sequence(options, replay=replay)
        self.lives: list[list[bytes]] = [[]]
        self.kept: deque[tuple[int, bytes]] = deque(maxlen=buffer_steps)
        self.on_the_way: deque[tuple[int, bytes]] = deque()
        self.request: int | None = None
        self.answer: deque[tuple[int, bytes] | None] = deque()
        self.applied: list[tuple[int, bytes]] = []
        self.doubted = False
        self.claims_empty = False
        self.obey(self.sequence.connect(self.now))

    @property
    def life(self) -> list[bytes]:
        """What the engine has published in its present life."""
        return self.lives[-1]

    # ------------------------------------------------------------------ what happens

    def step(self) -> None:
        """Let one thing happen."""
        self.rng.choices(
            [self.publish, self.deliver_live, self.serve, self.deliver_answer, self.let_time_pass, self.reconnect],
            weights=[30, 35, 10, 60, 4, 1],
        )[0]()
        self.check()

    def settle(self) -> None:
        """Let everything arrive that is on its way, without further harm, until there is nothing more to ask."""
        self.faults = NO_FAULTS
        for _ in range(400):
            self.drain(self.deliver_live, lambda: bool(self.on_the_way))
            self.serve()
            self.drain(self.deliver_answer, lambda: bool(self.answer))
            self.now += 1.0
            self.obey(self.sequence.tick(self.now))
            self.check()

    def drain(self, act: Callable[[], None], more: Callable[[], bool]) -> None:
        """Do something as long as there is something to do."""
        while more():
            act()
            self.check()

    def publish(self) -> None:
        """The engine has a batch."""
        number, payload = len(self.life), f"{len(self.lives)}:{len(self.life)}".encode()
        self.life.append(payload)
        self.kept.append((number, payload))
        if self.rng.random() >= self.faults.live_lost:
            self.on_the_way.append((number, payload))

    def deliver_live(self) -> None:
        """A live batch arrives."""
        if self.on_the_way:
            self.obey(self.sequence.live(*self.on_the_way.popleft(), self.now))

    def serve(self) -> None:
        """The engine comes to look at its replay socket."""
        start, self.request = self.request, None
        if start is None or self.rng.random() < self.faults.request_lost:
            return
        wanted = [item for item in self.kept if item[0] >= start]
        # Batches are lost where an answer meets a full queue, which its first cannot.
        self.answer.extend(wanted[:1])
        self.answer.extend(item for item in wanted[1:] if self.rng.random() >= self.faults.answer_lost)
        if self.rng.random() >= self.faults.end_lost:
            self.answer.append(None)

    def deliver_answer(self) -> None:
        """A frame of an answer arrives."""
        if not self.answer:
            return
        item = self.answer.popleft()
        if item is None:
            self.obey(self.sequence.replay_ended(self.now))
        else:
            self.obey(self.sequence.replayed(*item, self.now))

    def let_time_pass(self) -> None:
        """Nothing happens for a while."""
        self.now += self.rng.choice([0.1, 1.0, 5.0])
        self.obey(self.sequence.tick(self.now))

    def reconnect(self) -> None:
        """The connection ends and comes back, perhaps to a new life that has gone on by then."""
        for _ in range(self.rng.randrange(len(self.on_the_way) + 1)):
            self.on_the_way.pop()
        self.sequence.disconnect()
        self.request = None
        self.answer.clear()
        unheard, self.on_the_way = self.on_the_way, deque()
        if self.rng.random() < self.faults.restart:
            self.lives.append([])
            self.kept.clear()
        for _ in range(self.rng.choice([0, 0, 1, 3, len(self.lives[-2]) if len(self.lives) > 1 else 2])):
            self.publish()
        self.on_the_way.clear()  # nobody was connected
        for _ in range(self.rng.choice([0, 0, 2])):
            self.publish()  # heard before the news of the connection
        unheard += self.on_the_way
        self.on_the_way = unheard
        self.obey(self.sequence.connect(self.now, unread=len(unheard)))
        self.drain(self.deliver_live, lambda: bool(self.on_the_way))

    # ------------------------------------------------------------------ what is made of it

    def obey(self, instructions: tuple[Instruction, ...]) -> None:
        """Do what a subscriber and an index would."""
        for instruction in instructions:
            match instruction:
                case Apply(number, payload):
                    assert not self.applied or number > self.applied[-1][0], "numbers only rise"
                    self.applied.append((number, bytes(payload)))
                case Reset(_, empty):
                    self.applied.clear()
                    self.doubted, self.claims_empty = False, empty
                case Doubt():
                    self.doubted = True
                case RequestReplay(start):
                    self.request = start
                    self.answer.clear()
                case Drop():
                    pass
        if self.sequence.asked is None:
            self.request = None
            self.answer.clear()

    def check(self) -> None:
        """Hold the record against the truth."""
        assert is_balanced(self.sequence), self.sequence.counters
        if self.claims_to_be_exact():
            payloads = [payload for _, payload in self.applied]
            assert any(payloads == life[: len(payloads)] for life in self.lives), self.applied

    def claims_to_be_exact(self) -> bool:
        """Whether the index would call this record exact."""
        follows = all(number == place for place, (number, _) in enumerate(self.applied))
        return follows and not self.doubted


def is_balanced(sequence: Sequence) -> bool:
    """
    Whether every frame is accounted for.
    """
    counters = sequence.counters
    known = counters.applied + counters.duplicate + sum(counters.dropped.values()) + sequence.waiting
    return counters.received == known
