"""
One life of an engine, as far as its frames have come: applied in rising order, waiting above a hole, or passed over.

Every method that leads to something writes its instructions to the end of `out`. Nothing here knows how missing
numbers are asked for; a `held` life takes frames, but applies none, as it is not yet certain that they are its own.
"""

from __future__ import annotations

from kvsync.stream.bookmark import Bookmark, Last, is_same, number_of
from kvsync.stream.counters import OLD_LIFE, OVERFLOW, OVERSIZE, Counters
from kvsync.stream.frames import NUMBER_MAX
from kvsync.stream.instructions import Apply, Doubt, Drop, Empty, Instruction, Payload, Reset
from kvsync.stream.options import SequenceOptions
from kvsync.stream.question import Replay
from kvsync.stream.waiting import Digests, Waiting

NEVER_MAX = 1_024
"""Over-size numbers remembered; a publisher that sends more of them has stopped being followable."""

REBUILT = "built anew from the beginning"
MISSED = "the beginning of the new life was missed"
WITHIN_A_LIFE = frozenset({REBUILT, MISSED})
"""Why a record is dropped although its engine lives on: to be filled again, or because it was empty too soon."""


class Life:
    """
    What one engine's frames have come to since it was last born.
    """

    # The whole mutable state, beside the counters:
    #   applied     the last number applied or passed over; None before the first
    #   live_last   the highest number heard live
    #   last        the last batch applied, for the byte check; below `applied` if more was passed over since
    #   anchor      the last batch surely of this life, if what was applied since came in an answer that did not begin
    #               with its bytes, and has not been proven yet
    #   waiting     batches, all above `applied`: kept until the hole below is filled or given up
    #   _digests    of batches whose number may be heard a second time
    #   _never      numbers too large to receive: passed over when their turn comes, never asked for
    #   _reborn     there was a life before this one
    #   _emptied    the index was told that this life is empty, and nothing was applied since

    def __init__(self, options: SequenceOptions, counters: Counters, replay: Replay, bookmark: Bookmark | None) -> None:
        self.applied: int | None = None if bookmark is None else bookmark.number
        self.live_last: int | None = None
        self.last: Last | None = bookmark
        self.anchor: Last | None = None
        self.waiting = Waiting(options.waiting_frames_max, options.waiting_bytes_max)
        self._counters = counters
        self._replay = replay
        self._digests = Digests(options.digests_max)
        self._never: set[int] = set()
        self._emptied = False
        self._reborn = False

    @property
    def expected(self) -> int:
        """The number that comes next."""
        return 0 if self.applied is None else self.applied + 1

    @property
    def remembered(self) -> int:
        """Numbers whose bytes are known by their digest."""
        return len(self._digests)

    @property
    def is_behind(self) -> bool:
        """Whether the live stream has shown a number that is not applied yet."""
        return self.live_last is not None and (self.applied is None or self.applied < self.live_last)

    @property
    def has_given_up(self) -> bool:
        """Whether numbers behind the last batch applied were passed over."""
        return self.applied is not None and (self.last is None or number_of(self.last) < self.applied)

    @property
    def may_be_empty(self) -> bool:
        """Whether this life followed another, and nothing has been heard of it, not even that it is empty."""
        return self._reborn and not self._emptied and self.applied is None and self.live_last is None

    @property
    def is_in_step(self) -> bool:
        """Whether all that was heard live is applied, and nothing stands between it and the number that comes next."""
        in_step = self.applied is not None and self.applied == self.live_last
        return in_step and not (self.waiting or self._never or self._emptied) and self._replay is not Replay.GIVEN

    def would_leave_hole(self, number: int) -> bool:
        """Whether numbers below a live one are met for the first time as missing."""
        known = [top for top in (self.applied, self.live_last) if top is not None]
        return bool(known) and number > max(known) + 1

    def differs(self, number: int, payload: Payload) -> bool:
        """Whether this number is known with other bytes."""
        if self.last is not None and number == number_of(self.last):
            return not is_same(self.last, payload)
        if number in self._digests:
            return self._digests.differs(number, payload)
        waiting = self.waiting.get(number)
        return waiting is not None and waiting != payload

    # ------------------------------------------------------------------ frames

    def take(
        self, out: list[Instruction], number: int, payload: Payload, *, held: bool = False, comes_again: bool = False
    ) -> None:
        """Apply a frame and what waits for it, keep it, or drop it as known; `comes_again` says to remember it."""
        if number < self.expected or number in self.waiting:
            out.append(self._counters.drop_duplicate())
        elif number == self.expected and not held:
            self._apply(out, number, payload)
            if comes_again:
                self._digests.note(number, payload)
            self.advance(out)
        elif self._replay is Replay.NONE:
            self._counters.unfilled += self.applied is not None
            self._apply(out, number, payload)
        else:
            self.keep(out, number, payload)

    def step(self, count: int, payload: Payload) -> None:
        """Take note that as many frames as follow are applied, the last of them this; the life must be in step."""
        assert self.applied is not None
        self._counters.applied += count
        self.applied = self.live_last = self.applied + count
        self.last = (self.applied, payload)

    def take_replayed(self, out: list[Instruction], number: int, payload: Payload) -> None:
        """
        Apply a frame of an answer, and nothing that waits behind it: the answer itself says what comes next.

        The next one may wait already, as a frame of a life that ended before the answer was given.
        """
        if number in self.waiting:
            out.append(self._counters.drop_duplicate())
            self._apply(out, number, self.waiting.take(number))
        elif number < self.expected:
            out.append(self._counters.drop_duplicate())
        else:
            self._apply(out, number, payload)
        self._step_over(out)

    def keep(self, out: list[Instruction], number: int, payload: Payload) -> None:
        """Keep a frame above a hole, within the bounds."""
        if number in self.waiting:
            out.append(self._counters.drop_duplicate())
            return
        self.waiting.keep(number, payload)
        while self.waiting.is_overfull:
            if self._replay is Replay.GIVEN:
                self.jump(out, self.waiting.lowest)
            else:
                self.throw_away(OVERFLOW)
                out.append(Drop(OVERFLOW))

    def advance(self, out: list[Instruction]) -> None:
        """Apply what waits, as far as its numbers follow."""
        self._step_over(out)
        while (expected := self.expected) in self.waiting:
            self._apply(out, expected, self.waiting.take(expected))
            self._step_over(out)

    def _step_over(self, out: list[Instruction]) -> None:
        while (expected := self.expected) in self._never:
            self._never.discard(expected)
            self._counters.unfilled += 1
            self.applied = expected
            out.append(Doubt(OVERSIZE))  # now, and not when it was heard of: a batch in between may clear doubt

    def _apply(self, out: list[Instruction], number: int, payload: Payload) -> None:
        if self._emptied and number != 0:
            out.append(Reset(MISSED))
        self._emptied = False
        self._counters.applied += 1
        self.applied = number
        self.last = (number, payload)
        if self._replay is Replay.GIVEN or self.live_last is None or number > self.live_last:
            self._digests.note(number, payload)
        out.append(Apply(number, payload))

    # ------------------------------------------------------------------ holes

    def pass_over(self, out: list[Instruction], number: int, *, held: bool = False) -> None:
        """Take note that a number is too large to be had; one that was passed over before is no news."""
        if number < self.expected:
            return
        if len(self._never) >= NEVER_MAX:
            out.append(Doubt(OVERSIZE))
            return
        self._never.add(number)
        if not held:
            self.advance(out)

    def jump(self, out: list[Instruction], lowest: int) -> None:
        """Pass over the hole below the lowest waiting frame: the numbers tell the index."""
        self._counters.unfilled += self.applied is not None
        self._apply(out, lowest, self.waiting.take(lowest))
        self.advance(out)

    def jump_to(self, out: list[Instruction], number: int, payload: Payload) -> None:
        """Pass over every hole below a frame that starts an answer: what is not there is nowhere."""
        self._jump_all(out, below=number)
        if self.expected < number:
            self._counters.unfilled += self.applied is not None
            self.applied = number - 1
        self.take_replayed(out, number, payload)

    def abandon_holes(self, out: list[Instruction]) -> None:
        """Apply what waits over its holes, and look for nothing that was heard of."""
        self._jump_all(out)
        if self.is_behind:
            # Thrown away, and not to be had again: no later number need ever show it.
            self._counters.unfilled += 1
            self.applied = self.live_last
            out.append(Doubt(OVERFLOW))

    def _jump_all(self, out: list[Instruction], below: int = NUMBER_MAX + 1) -> None:
        for number in self.waiting.numbers():
            if number < below and number in self.waiting:  # a follower of a lower one is gone already
                self.jump(out, number)

    # ------------------------------------------------------------------ the end

    def throw_away(self, reason: str) -> None:
        """Drop all that waits."""
        if self.waiting:
            self._counters.dropped[reason] += len(self.waiting)
        self.waiting.clear()

    def drop_below(self, number: int, reason: str) -> None:
        """Drop what waits below a number."""
        for waits in self.waiting.numbers():
            if waits < number:
                self.waiting.take(waits)
                self._counters.dropped[reason] += 1

    def forget_heard(self, reason: str) -> None:
        """Drop what was heard of, when no batch of it has been applied: it may be another life's."""
        self.throw_away(reason)
        self._never.clear()
        self.applied = self.live_last = None

    def go_back(self) -> None:
        """Take for missing again what was passed over behind the last batch applied."""
        assert self.last is not None
        self.applied = number_of(self.last)

    def begin_again(self, out: list[Instruction]) -> None:
        """Drop the record of this life, to be built anew from number 0 on; what is heard live stays heard."""
        self._counters.rebuilds += 1
        self.applied = self.last = self.anchor = None
        self._emptied = False
        out.append(Reset(REBUILT))

    def be_empty(self, out: list[Instruction]) -> None:
        """Take note that nothing has been published in this life."""
        assert self.applied is None
        self._emptied = True
        out.append(Empty())

    def restart(self, out: list[Instruction], reason: str) -> None:
        """Begin a new life."""
        self._counters.restarts += 1
        self.throw_away(OLD_LIFE)
        self._digests.clear()
        self._never.clear()
        self.applied = self.live_last = None
        self.last = self.anchor = None
        self._emptied, self._reborn = False, True
        out.append(Reset(reason))
