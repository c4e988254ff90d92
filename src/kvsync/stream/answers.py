"""
Questions to an engine's replay port, and what follows from the answers: one under way at a time.

An answer is trusted as far as its numbers follow each other. Behind a hole inside it the question is put again,
from the hole; an answer that *begins* behind the number asked shows that the number is no longer there. Such a hole
is passed over: the next Apply jumps, and the index turns stale by that. Every question needs a new socket, so no
frame of an earlier answer can be taken for one of a later.
"""

from __future__ import annotations

from kvsync.stream.bookmark import Bookmark, is_same, number_of
from kvsync.stream.counters import OVERSIZE, REPLAY_ORDER, RESTART, UNASKED, UNVERIFIED, WRAPPED, Counters
from kvsync.stream.instructions import Confirm, Doubt, Instruction, Payload, RequestReplay
from kvsync.stream.life import Life
from kvsync.stream.options import SequenceOptions
from kvsync.stream.question import Purpose, Question, Replay


class Answers:
    """
    The replays of one engine's stream, as far as they concern the `life` they fill.
    """

    # The whole mutable state, beside the life and the counters:
    #   asked       the replay under way
    #   available   whether the last replay asked for was answered; None before the first
    #   _attempts   replays without progress in a row
    #   _bufferless the engine answers with nothing though it has published: its buffer has no room

    def __init__(self, options: SequenceOptions, counters: Counters, replay: Replay, life: Life) -> None:
        self.asked: Question | None = None
        self.available: bool | None = None
        self._options = options
        self._counters = counters
        self._replay = replay
        self._life = life
        self._attempts = 0
        self._bufferless = False

    @property
    def are_held(self) -> bool:
        """Whether live frames wait although they follow."""
        return self.asked is not None and self.asked.is_unverified

    # ------------------------------------------------------------------ questions

    def ask_for_missing(self, out: list[Instruction], now: float) -> None:
        """Ask from the first number missing on."""
        if self._replay is Replay.ASKED:
            purpose = Purpose.BEGINNING if self._life.applied is None else Purpose.GAP
            self._ask(out, self._life.expected, purpose, now)

    def verify(self, out: list[Instruction], now: float) -> None:
        """Ask whether this is the same life still; something must have been applied in it."""
        assert self._life.last is not None
        self._ask(out, number_of(self._life.last), Purpose.VERIFY, now)

    def probe(self, out: list[Instruction], now: float) -> None:
        """Ask the same of a stream that is merely silent."""
        last = self._life.last
        self._ask(out, self._life.expected if last is None else number_of(last), Purpose.PROBE, now)

    def postpone(self, now: float) -> None:
        """Take note that the question has only now been sent: its time runs from here."""
        if self.asked is not None:
            self.asked.deadline = now + self._options.replay_timeout_s

    def forgive(self) -> None:
        """Forget attempts that failed: they were another connection's."""
        self._attempts = 0

    def withdraw(self) -> None:
        """Wait for no answer any longer."""
        self.asked = None

    def restart(self, out: list[Instruction], reason: str, *, empty: bool = False) -> None:
        """Begin a new life, of which nothing was asked yet."""
        self._life.restart(out, reason, empty=empty)
        self.asked = None
        self._attempts = 0
        self._bufferless = False

    def _ask(self, out: list[Instruction], start: int, purpose: Purpose, now: float) -> None:
        life = self._life
        last = life.last if purpose in (Purpose.VERIFY, Purpose.PROBE) else None
        deadline = now + self._options.replay_timeout_s
        self.asked = Question(start, purpose, deadline, last, life.applied, life.live_last)
        self._counters.replays += 1
        out.append(RequestReplay(start))

    # ------------------------------------------------------------------ answers

    def take(self, out: list[Instruction], number: int, payload: Payload, now: float) -> None:
        """Take a frame of an answer."""
        if self.asked is None:
            out.append(self._counters.drop(UNASKED))
        elif self.asked.heard is not None and number <= self.asked.heard:
            # Does not put off the deadline either: an answer that turns in circles must end.
            out.append(self._counters.drop(REPLAY_ORDER))
        else:
            self._take_next(out, self.asked, number, payload, now)

    def _take_next(self, out: list[Instruction], asked: Question, number: int, payload: Payload, now: float) -> None:
        life = self._life
        is_first = asked.heard is None
        asked.heard = number
        asked.deadline = now + self._options.replay_timeout_s
        self._bufferless = False
        if asked.last is not None and number >= asked.start:
            last, asked.last = asked.last, None
            if number == asked.start and not is_same(last, payload):
                self._restart_from_answer(out, now)
                return
            if number == asked.start and isinstance(last, Bookmark):
                out.append(Confirm())
            if number == asked.start + 1 == life.expected:
                out.append(Doubt(WRAPPED))  # nothing is missing, but nothing proves that this is the same life
        if life.differs(number, payload):
            self._restart_from_answer(out, now)
        elif number <= life.expected:
            life.take(out, number, payload, held=self.are_held)
            if not self.are_held:
                life.advance(out)
        elif is_first:
            life.jump_to(out, number, payload)
        else:
            life.keep(out, number, payload)
            self.ask_for_missing(out, now)

    def _restart_from_answer(self, out: list[Instruction], now: float) -> None:
        # The answer belongs to the new life, but not to its beginning.
        out.append(self._counters.drop(RESTART))
        self.restart(out, "a known number was replayed with other bytes")
        self.ask_for_missing(out, now)

    # ------------------------------------------------------------------ ends

    def end(self, out: list[Instruction], now: float) -> None:
        """Take note that the answer under way is complete."""
        asked, self.asked = self.asked, None
        if asked is None:
            return
        self.available, self._attempts = True, 0
        self._bufferless = self._bufferless or asked.is_contradicted(self._life.live_last)
        if asked.last is None:
            self._settle(out, asked, now)
        elif not self._bufferless:
            # A living engine always keeps its last batch.
            silent = asked.heard is None and not self._life.waiting
            self.restart(out, "the replay buffer has lost the last batch", empty=silent)
            if not silent:
                self.ask_for_missing(out, now)
        else:
            if asked.is_unverified:
                out.append(Doubt(UNVERIFIED))
            self._settle(out, asked, now)

    def fail(self, out: list[Instruction], now: float, *, connected: bool) -> None:
        """Take note that the replay under way will not come to its end."""
        asked, self.asked = self.asked, None
        if asked is None:
            return
        self._counters.replay_failures += 1
        self.available = asked.heard is not None
        if connected:  # else the next connection asks anew
            self._after_failure(out, asked, now, progressed=self._life.applied != asked.applied)

    def meet_oversize(self, out: list[Instruction], now: float) -> None:
        """Take note that a frame of the replay under way was too large to receive, which ends it."""
        asked, self.asked = self.asked, None
        if asked is None:
            return
        out.append(Doubt(OVERSIZE))
        self._counters.oversize += 1
        progressed = self._life.applied != asked.applied
        if asked.heard is None:
            self._life.pass_over(out, asked.start)
        else:
            self.available = True
            self._life.pass_over(out, asked.heard + 1)
        self._after_failure(out, asked, now, progressed=progressed)

    def _settle(self, out: list[Instruction], asked: Question, now: float) -> None:
        """After a complete answer: what is still missing is asked for again, or is not to be had."""
        life = self._life
        life.advance(out)
        if not life.is_behind:
            return
        older_than_hole = asked.live_last is None or life.expected > asked.live_last
        if life.applied == asked.applied and not older_than_hole:
            if life.waiting:
                life.jump(out, life.waiting.lowest)
            else:
                life.abandon_holes(out)
        if life.is_behind:
            self.ask_for_missing(out, now)

    def _after_failure(self, out: list[Instruction], asked: Question, now: float, *, progressed: bool) -> None:
        """Ask again from the first hole, or go on without."""
        if asked.purpose is Purpose.PROBE and not self._life.is_behind:
            return  # nothing is known to be missing, and the next probe comes anyway
        self._attempts = 0 if progressed else self._attempts + 1
        if self._attempts < self._options.replay_attempts:
            if asked.is_unverified:
                self._ask(out, asked.start, Purpose.VERIFY, now)
            else:
                self.ask_for_missing(out, now)
            return
        if asked.heard is None:
            self._attempts = self._options.replay_attempts - 1  # a dead port gets one chance from here on, not all
        self._life.abandon_holes(out)
        if asked.is_unverified:
            out.append(Doubt(UNVERIFIED))
