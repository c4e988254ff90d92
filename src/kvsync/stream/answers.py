"""
Questions to an engine's replay port, and what follows from the answers: one under way at a time.

An answer is trusted as far as its numbers follow each other. Behind a hole inside it the question is put again,
from the hole; an answer that *begins* behind the number asked shows that the number is no longer there. Such a hole
is passed over: the next Apply jumps, and the index turns stale by that. Every question needs a new socket, so no
frame of an earlier answer can be taken for one of a later.

An answer and the live stream come over two connections, and an engine may die and be born again between them. So every
question begins at the last batch applied, and the answer must begin with its bytes. What was heard live before a
question was put must be in its answer too, for a living engine keeps its last batches: frames that wait are applied
only as the answer reaches them, bytes compared; those it does not reach are asked for once more.

Only behind a number passed over, as an over-size one, a question begins at no known batch. What its answer brings is
applied, and proven afterwards: by a question from the `anchor`, the last batch before it.

What is given up because nobody answered is owed: as long as the buffer reaches back to number 0 the record can be
built anew, which is tried until an answer shows one or the other.
"""

from __future__ import annotations

from kvsync.stream.bookmark import Bookmark, Last, is_same, number_of
from kvsync.stream.counters import REPLAY_ORDER, RESTART, UNASKED, UNVERIFIED, WRAPPED, Counters
from kvsync.stream.instructions import Confirm, Doubt, Instruction, Payload, RequestReplay
from kvsync.stream.life import Life
from kvsync.stream.options import SequenceOptions
from kvsync.stream.question import Purpose, Question, Replay

OVERSIZE_ROW_MAX = 16
"""Over-size frames in a row that are stepped over one by one, at the price of a question each."""


class Answers:
    """
    The replays of one engine's stream, as far as they concern the `life` they fill.
    """

    # The whole mutable state, beside the life and the counters:
    #   asked       the replay under way
    #   available   whether the last replay asked for was answered; None before the first
    #   _attempts   replays without progress in a row
    #   _oversize_row   over-size frames met in a row, each of which ended an answer
    #   unverified  nobody has said whether this connection's life is that of the record
    #   owes        something was given up for want of an answer, and has not been built anew since
    #   _has_room   an answer had batches, in this life and over this connection
    #   _bufferless the engine answers with nothing though it has published: its buffer has no room

    def __init__(self, options: SequenceOptions, counters: Counters, replay: Replay, life: Life) -> None:
        self.asked: Question | None = None
        self.available: bool | None = None
        self.owes = False
        self.unverified = False
        self._options = options
        self._counters = counters
        self._replay = replay
        self._life = life
        self._attempts = 0
        self._oversize_row = 0
        self._bufferless = self._has_room = False

    @property
    def are_held(self) -> bool:
        """Whether live frames wait although they follow."""
        return self.asked is not None and self.asked.is_unverified

    @property
    def is_beginning(self) -> bool:
        """Whether an answer is to come with all there is, so that what is applied meanwhile comes again."""
        return self.asked is not None and not self.asked.from_last

    # ------------------------------------------------------------------ questions

    def ask_for_missing(self, out: list[Instruction], now: float) -> None:
        """Ask for what comes next in the life of the record."""
        if self._replay is Replay.ASKED:
            self._ask_on(out, Purpose.BEGINNING if self._life.applied is None else Purpose.GAP, now)

    def verify(self, out: list[Instruction], now: float) -> None:
        """Ask whether this is the same life still; something must have been applied in it."""
        last = self._life.anchor or self._life.last
        assert last is not None
        self._ask(out, number_of(last), Purpose.VERIFY, now, last=last)

    def probe(self, out: list[Instruction], now: float) -> None:
        """Ask the same of a stream that is merely silent."""
        self._oversize_row = 0
        if self._life.anchor is None:
            self._ask_on(out, Purpose.PROBE, now)
        else:
            self._prove(out, now)

    def rebuild(self, out: list[Instruction], now: float) -> None:
        """Ask from the beginning, to build the record anew if it is still there."""
        self._oversize_row = 0
        self._ask(out, 0, Purpose.REBUILD, now)

    def postpone(self, now: float) -> None:
        """Take note that the question has only now been sent: its time runs from here."""
        if self.asked is not None:
            self.asked.deadline = now + self._options.replay_timeout_s

    def forgive(self) -> None:
        """Forget attempts that failed and answers that came: they were another connection's."""
        self._attempts = 0
        self._has_room = self.unverified = False

    def withdraw(self) -> None:
        """Wait for no answer any longer."""
        self.asked = None

    def restart(self, out: list[Instruction], reason: str) -> None:
        """Begin a new life, of which nothing was asked yet."""
        self._life.restart(out, reason)
        self.asked = None
        self.unverified = False
        self._attempts = 0
        self._bufferless = self._has_room = self.owes = False

    def _ask_on(self, out: list[Instruction], purpose: Purpose, now: float) -> None:
        """Ask from the last batch on, so that its bytes show whose answer it is; not through an over-size one again."""
        life = self._life
        if life.last is not None and number_of(life.last) == life.applied:
            self._ask(out, life.applied, purpose, now, last=life.last)
        else:
            self._ask(out, life.expected, purpose, now)

    def _prove(self, out: list[Instruction], now: float) -> None:
        """Ask from the last batch surely of this life, and so whether what was applied since is of it too."""
        anchor = self._life.anchor
        assert anchor is not None
        self._ask(out, number_of(anchor), Purpose.PROBE, now, last=anchor)

    def _ask(
        self, out: list[Instruction], start: int, purpose: Purpose, now: float, *, last: Last | None = None
    ) -> None:
        life = self._life
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
        is_first, at_beginning = asked.heard is None, asked.stands_at_beginning
        asked.heard = number
        asked.deadline = now + self._options.replay_timeout_s
        self._bufferless, self._has_room, self._oversize_row = False, True, 0
        if asked.purpose is Purpose.REBUILD and is_first and not self._begins_again(out, number):
            return
        self.unverified = False  # from here on an answer of this connection may have run ahead of its live stream
        asked.met = asked.met or number in life.waiting
        if asked.last is not None and number >= asked.start:
            last, asked.last = asked.last, None
            if last is life.anchor:
                life.anchor = None  # proven or not: there will never be more to compare
            if number == asked.start and not is_same(last, payload):
                self._restart_from_answer(out, now)
                return
            if number == asked.start and isinstance(last, Bookmark):
                out.append(Confirm())
            if number > asked.start:
                life.drop_below(number, WRAPPED)  # heard when nobody knew whose it was, it must not close the hole
            if asked.start < number <= life.expected:
                out.append(Doubt(WRAPPED))  # nothing is missing, but nothing proves that this is the same life
        elif is_first and number > asked.start and asked.last is None:
            life.drop_below(number, WRAPPED)  # likewise
            if number == life.expected:
                out.append(Doubt(WRAPPED))  # of what was applied live while the answer was on its way
        if is_first and not asked.from_last:
            self._note_unproven(asked, number)
        if life.differs(number, payload):
            self._restart_from_answer(out, now)
        elif number <= life.expected and not self.are_held:
            life.take_replayed(out, number, payload)
        elif number <= life.expected:
            life.take(out, number, payload, held=True)
        elif at_beginning:
            life.jump_to(out, number, payload)
        else:
            life.keep(out, number, payload)
            self.ask_for_missing(out, now)

    def _note_unproven(self, asked: Question, number: int) -> None:
        """Take note of an answer that begins with no known batch: what it brings is to be proven, or built anew."""
        life = self._life
        if life.last is None:
            self.owes = self.owes or asked.start > 0
        elif number > number_of(life.last):
            life.anchor = life.anchor or life.last

    def _begins_again(self, out: list[Instruction], number: int) -> bool:
        self.owes = False
        life = self._life
        if number == 0 or life.last is None:
            life.begin_again(out)
            return True
        if life.has_given_up:
            life.go_back()
            return True
        # The beginning is gone for good: the record stays as it is, and the rest of the answer is known.
        self.asked, self.available = None, True
        out.append(self._counters.drop_duplicate())
        return False

    def _restart_from_answer(self, out: list[Instruction], now: float) -> None:
        # The answer belongs to the new life, but not to its beginning.
        out.append(self._counters.drop(RESTART))
        self._restart_and_ask(out, "a known number was replayed with other bytes", now)

    def _restart_and_ask(self, out: list[Instruction], reason: str, now: float) -> None:
        self.restart(out, reason)
        self.ask_for_missing(out, now)

    # ------------------------------------------------------------------ ends

    def end(self, out: list[Instruction], now: float) -> None:
        """Take note that the answer under way is complete."""
        asked, self.asked = self.asked, None
        if asked is None:
            return
        self.available, self._attempts = True, 0
        contradicted = asked.is_contradicted(self._life.live_last)
        if contradicted and self._has_room:
            self._restart_and_ask(out, "the replay buffer lacks what was heard live", now)
            return
        self._bufferless = self._bufferless or contradicted
        lacks_last = asked.last is not None or (
            asked.purpose is Purpose.REBUILD and asked.heard is None and self._life.last is not None
        )
        if lacks_last and (asked.is_unverified or not self._bufferless):
            # A living engine always keeps its last batch.
            self._restart_and_ask(out, "the replay buffer has lost the last batch", now)
        else:
            self._settle(out, asked, now)
            self._prove_what_came(out, asked, now)

    def fail(self, out: list[Instruction], now: float, *, connected: bool) -> None:
        """Take note that the replay under way will not come to its end."""
        asked, self.asked = self.asked, None
        if asked is None:
            return
        self._counters.replay_failures += 1
        self.available = asked.heard is not None
        if connected:  # else the next connection asks anew
            self._after_failure(out, asked, now, progressed=self._life.applied != asked.applied, owes=True)

    def meet_oversize(self, out: list[Instruction], now: float) -> None:
        """Take note that a frame of the replay under way was too large to receive, which ends it."""
        asked, self.asked = self.asked, None
        if asked is None:
            return
        self._counters.oversize += 1
        self.available = True
        self._oversize_row += 1
        if asked.last is not None and asked.heard is None:
            # The last batch was received, so what stands in its place is another life's, or the buffer has wrapped.
            self._restart_and_ask(out, "the replay buffer has lost the last batch", now)
            return
        if asked.purpose is Purpose.REBUILD and asked.heard is None:
            self.owes = False  # there is no beginning to be had
            if self._life.last is None:  # but nothing to lose either
                self._life.begin_again(out)
                self._life.pass_over(out, asked.start)
        else:
            self._life.pass_over(out, asked.start if asked.heard is None else asked.heard + 1)
        self._after_failure(out, asked, now, progressed=self._oversize_row <= OVERSIZE_ROW_MAX, owes=False)

    def _settle(self, out: list[Instruction], asked: Question, now: float) -> None:
        """After a complete answer: what is still missing is asked for again, or is not to be had."""
        life = self._life
        if life.expected in life.waiting and not asked.met and not self._bufferless:
            self.ask_for_missing(out, now)
            return
        life.advance(out)
        if asked.start == 0 and asked.heard is None and life.may_be_empty and not self._bufferless:
            life.be_empty(out)
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

    def _prove_what_came(self, out: list[Instruction], asked: Question, now: float) -> None:
        """After an answer that began with no known batch, once nothing is missing any more."""
        if self.asked is None and self._life.anchor is not None and not asked.from_last:
            self._prove(out, now)

    def _after_failure(
        self, out: list[Instruction], asked: Question, now: float, *, progressed: bool, owes: bool
    ) -> None:
        """Ask again from the first hole, or go on without."""
        if asked.is_idle and not self._life.is_behind and owes:
            return  # nothing is known to be missing, and the next one comes anyway
        self._attempts = 0 if progressed else self._attempts + 1
        if self._attempts < self._options.replay_attempts:
            if asked.is_unverified:
                self.verify(out, now)
            else:
                self.ask_for_missing(out, now)
            return
        if asked.heard is None:
            self._attempts = self._options.replay_attempts - 1  # a dead port gets one chance from here on, not all
        self.owes = self.owes or owes
        self._life.abandon_holes(out)
        if asked.is_unverified:
            self.unverified = True
            out.append(Doubt(UNVERIFIED))
