"""
The order of one engine's frames, decided without sockets and without a clock of its own.

Numbers of one life run 0, 1, 2, ... and each is applied at most once, in rising order. What comes in is told
by a method; what is to be done comes back as a tuple of instructions, to be obeyed in that order.

    next expected, live            Apply
    above it                       a hole: RequestReplay from the first missing number; the frame waits
    live, <= the highest live      restart: Reset, RequestReplay(0). Within one life the live stream never goes back
    known number, other bytes      restart, likewise
    live, <= applied otherwise     a replay ran ahead of the live stream: a duplicate
    connected, first time          RequestReplay(0). An answer that begins later is accepted: the buffer has wrapped
    connected again                RequestReplay(last), live frames wait meanwhile. Same bytes: the same life.
                                   Other bytes, or nothing at all: restart. Only later ones: wrapped, Doubt
    silent for a while             the same question, without waiting
    an answer that nothing begins  applied, and proven by a question from the last batch before it
    given up for want of answers   RequestReplay(0) again after a while; from 0 on the record is built anew (Reset)

Three files below it do the steps: `life` applies, keeps and passes over; `answers` asks for replays and judges what
comes; `waiting` remembers within bounds.

Three ways to a replay, see `Replay`: there is none, it may be asked for, or it comes unasked (in a capture).

Every frame told is accounted for at every moment: received = applied + duplicate + dropped + waiting. An end marker
is a frame with nothing to apply: it is dropped under its own name.
"""

from __future__ import annotations

from math import inf

from kvsync.stream.answers import Answers
from kvsync.stream.bookmark import Bookmark, bookmark_of, digest
from kvsync.stream.counters import END_MARKER, RECONNECT, UNVERIFIED, Counters
from kvsync.stream.frames import (
    NUMBER_MAX,
    PUB,
    WRONG_NUMBER,
    Batch,
    EndMarker,
    Frames,
    Unreadable,
    read_live,
    read_replay,
)
from kvsync.stream.instructions import Doubt, Instruction, Payload
from kvsync.stream.life import Life
from kvsync.stream.options import SequenceOptions
from kvsync.stream.question import Replay
from kvsync.stream.replays import Urgency

__all__ = ["Bookmark", "Counters", "Replay", "Sequence", "digest", "feed"]


class Sequence:
    """
    The order of one engine's frames.

    `phase` in [0, 1) spreads the probes of many engines in time. `bookmark` is where an earlier process
    stopped: the first connection is then treated as a reconnection. What it left is whole, or owed, see `owes_rebuild`.
    """

    # The whole mutable state, beside the counters, the life and the questions about it:
    #   connected, _was_connected   the live socket now, and ever
    #   last_event_at   when a live frame was last made use of
    #   _unread     live frames to come that may be of a connection before
    #   _connects   reconnections since the live stream was last known to be of the newest connection: the next live
    #               frame that goes back may be of as many lives
    #   _probe_at   when a silent stream is probed
    #   _rebuild_at when what was given up is tried again

    def __init__(
        self,
        options: SequenceOptions | None = None,
        *,
        replay: Replay = Replay.ASKED,
        phase: float = 0.0,
        bookmark: Bookmark | None = None,
        is_whole: bool = True,
    ) -> None:
        self.options = SequenceOptions() if options is None else options
        self.counters = Counters()
        self.connected = False
        self.last_event_at: float | None = None
        self._replay = replay
        self._life = Life(self.options, self.counters, replay, bookmark)
        self._answers = Answers(self.options, self.counters, replay, self._life)
        self._answers.owes = not is_whole
        # Between half and nine tenths of the allowed silence: early enough for the answer to be in time.
        self._probe_after = self.options.probe_idle_s * (0.5 + 0.4 * phase)
        self._probe_at = 0.0
        self._rebuild_at = 0.0
        self._was_connected = False
        self._unread = 0
        self._connects = 0

    def __repr__(self) -> str:
        counters = self.counters
        return (
            f"<Sequence {self.state} applied={self.applied} live={self.live_last} waiting={self.waiting}"
            f" gaps={counters.gaps} restarts={counters.restarts}>"
        )

    # ------------------------------------------------------------------ what can be seen

    @property
    def state(self) -> str:
        """`connecting`, `disconnected`, `replaying` or `live`."""
        if not self.connected and self._replay is not Replay.GIVEN:
            return "disconnected" if self._was_connected else "connecting"
        asked = self._answers.asked
        behind = asked is not None and (not asked.is_idle or self._life.is_behind)
        return "replaying" if behind or self._life.waiting else "live"

    @property
    def applied(self) -> int | None:
        """The last number applied or passed over in this life; None before the first."""
        return self._life.applied

    @property
    def live_last(self) -> int | None:
        """The highest number heard live in this life."""
        return self._life.live_last

    @property
    def asked(self) -> int | None:
        """The start of the replay under way; None means that its socket is no longer needed."""
        return None if self._answers.asked is None else self._answers.asked.start

    @property
    def urgency(self) -> Urgency:
        """Why the replay under way is wanted."""
        asked = self._answers.asked
        if self._life.waiting or self._life.is_behind:
            return Urgency.BEHIND
        if asked is None or asked.is_idle:
            return Urgency.IDLE
        return Urgency.VERIFY if self._life.applied is not None or self.counters.restarts else Urgency.FIRST

    @property
    def waiting(self) -> int:
        """Frames kept above a hole."""
        return len(self._life.waiting)

    @property
    def waiting_bytes(self) -> int:
        """The bytes of what is kept above a hole."""
        return self._life.waiting.bytes

    @property
    def remembered(self) -> int:
        """How many numbers are known by their digests."""
        return self._life.remembered

    @property
    def owes_rebuild(self) -> bool:
        """Whether something was given up for want of an answer: it is tried again from the beginning."""
        return self._answers.owes

    @property
    def replay_available(self) -> bool | None:
        """Whether the last replay asked for was answered; None before the first, False without a port."""
        return False if self._replay is Replay.NONE else self._answers.available

    @property
    def bookmark(self) -> Bookmark | None:
        """Where to go on from in another process; None if there is nothing that could be verified."""
        return bookmark_of(self._life.last)

    def wants_probe(self, now: float) -> bool:
        """Whether the next `tick` would probe, if it may."""
        idle = self._replay is Replay.ASKED and self.connected and self._answers.asked is None
        return idle and (now >= self._probe_at or self._is_to_be_rebuilt(now))

    @property
    def due_at(self) -> float:
        """The earliest time at which a `tick` of a stream at rest does something; what is heard puts it off."""
        if self._replay is not Replay.ASKED:
            return inf
        return min(self._probe_at, self._rebuild_at) if self._answers.owes else self._probe_at

    def _is_to_be_rebuilt(self, now: float) -> bool:
        return self._answers.owes and now >= self._rebuild_at

    # ------------------------------------------------------------------ frames

    def live(self, number: int, payload: Payload, now: float) -> tuple[Instruction, ...]:
        """Take a frame of the live stream."""
        self.counters.received += 1
        if number > NUMBER_MAX:
            return (self.counters.drop(WRONG_NUMBER),)
        out: list[Instruction] = []
        life, answers = self._life, self._answers
        went_back = life.live_last is not None and number <= life.live_last
        if answers.unverified and life.live_last is None and life.applied is not None:
            went_back = number <= life.applied  # no answer of this connection can have run ahead
        if went_back and self._connects <= 1:
            self._unread = 0  # what comes from here on is of the new life too
        is_unread = self._count_unread()
        if is_unread and self._replay is Replay.ASKED:
            # Whosever it is, the answer that the new connection has asked for holds it if it matters.
            return (self.counters.drop(RECONNECT),)
        # One life has ended per reconnection at most. While frames are unread, more of them may have gone by.
        self._connects = self._connects - went_back if self._unread else 0
        if went_back:
            answers.restart(out, "the live stream went back")
        elif life.differs(number, payload):
            answers.restart(out, "a known number came with other bytes")
        elif life.would_leave_hole(number):
            self.counters.gaps += 1
        life.live_last = number
        self.last_event_at = now
        self._put_off_probe(now)
        life.take(out, number, payload, held=answers.are_held, comes_again=answers.is_beginning)
        if answers.asked is None and life.is_behind:
            answers.ask_for_missing(out, now)
        if is_unread:
            out.append(Doubt(UNVERIFIED))
        return tuple(out)

    @property
    def awaited(self) -> int | None:
        """The number of the live frame that would plainly follow what has been applied; None if it is not as simple."""
        life, answers = self._life, self._answers
        if self._unread or not life.is_in_step or life.expected > NUMBER_MAX:
            return None
        if answers.asked is not None and (answers.are_held or answers.is_beginning):
            return None
        return life.expected

    def follow(self, count: int, payload: Payload, now: float) -> None:
        """
        Take so many live frames, the first of them numbered as `awaited`, the others counting on from it.

        Each is to be applied, the last, which has this payload, under the number `applied`.
        """
        self.counters.received += count
        self._connects = 0
        self.last_event_at = now
        self._put_off_probe(now)
        self._life.step(count, payload)

    def replayed(self, number: int, payload: Payload, now: float) -> tuple[Instruction, ...]:
        """Take a frame of a replay."""
        self.counters.received += 1
        if number > NUMBER_MAX:
            return (self.counters.drop(WRONG_NUMBER),)
        out: list[Instruction] = []
        if self._replay is not Replay.GIVEN:
            self._answers.take(out, number, payload, now)
            return tuple(out)
        if self._life.differs(number, payload):
            self._answers.restart(out, "a known number was replayed with other bytes")
        self._life.take(out, number, payload)
        return tuple(out)

    def replay_ended(self, now: float) -> tuple[Instruction, ...]:
        """Take the end marker of a replay."""
        self.counters.received += 1
        out: list[Instruction] = [self.counters.drop(END_MARKER)]
        if self._answers.asked is not None:
            self._put_off_probe(now)
            self._answers.end(out, now)
        return tuple(out)

    def unreadable(self, reason: str) -> tuple[Instruction, ...]:
        """Take note of a message that has no number to go by."""
        self.counters.received += 1
        self._count_unread()
        return (self.counters.drop(reason),)

    def _count_unread(self) -> bool:
        self._unread -= (is_unread := self._unread > 0)
        return is_unread

    # ------------------------------------------------------------------ the sockets

    def connect(self, now: float, *, unread: int = 0) -> tuple[Instruction, ...]:
        """
        Take note that the live socket is connected, for the first time or again.

        `unread` live frames were read along with this news, and may be of the connection before. They come next.
        """
        out: list[Instruction] = []
        life = self._life
        again = self._was_connected or isinstance(life.last, Bookmark)
        self.counters.reconnects += self._was_connected
        self.connected = self._was_connected = True
        self._answers.forgive()
        if not again and self._answers.asked is not None:
            return ()  # a live frame was faster than the news of the connection
        known = again and life.last is not None
        self._unread = unread if again else 0
        self._connects += again
        if again and not known:
            life.forget_heard(RECONNECT)  # of whatever life it was, this one's answer begins at 0
        if self._replay is Replay.ASKED and known:
            self._answers.verify(out, now)
            return tuple(out)
        if known:
            out.append(Doubt(UNVERIFIED))
        self._answers.ask_for_missing(out, now)
        return tuple(out)

    def disconnect(self) -> None:
        """Take note that the live socket lost its connection. It proves nothing: what is recorded stays."""
        self.connected = False

    def replay_sent(self, now: float) -> None:
        """Take note that the request has only now been sent: its time runs from here."""
        self._answers.postpone(now)

    def replay_failed(self, now: float) -> tuple[Instruction, ...]:
        """Take note that the replay under way will not come to its end."""
        out: list[Instruction] = []
        if self._answers.asked is not None:
            self._put_off_probe(now)
            self._rebuild_at = now + self._probe_after
            self._answers.fail(out, now, connected=self.connected)
        return tuple(out)

    def oversize(self) -> tuple[Instruction, ...]:
        """
        Take note that a live frame was too large to receive.

        It was the one after the last heard: a connection keeps its order.
        """
        self.counters.oversize += 1
        out: list[Instruction] = []
        if self._life.live_last is not None:  # else nobody knows which, and the next connection asks for all
            self._life.live_last += 1
            self._life.pass_over(out, self._life.live_last, held=self._answers.are_held)
        return tuple(out)

    def oversize_replayed(self, now: float) -> tuple[Instruction, ...]:
        """Take note that a frame of the replay under way was too large to receive."""
        out: list[Instruction] = []
        self._put_off_probe(now)
        self._answers.meet_oversize(out, now)
        return tuple(out)

    def tick(self, now: float, *, may_probe: bool = True) -> tuple[Instruction, ...]:
        """Let time pass: a replay may be overdue, a silent stream may want a probe."""
        if self._answers.asked is not None and now >= self._answers.asked.deadline:
            return self.replay_failed(now)
        out: list[Instruction] = []
        if may_probe and self.wants_probe(now):
            if self._is_to_be_rebuilt(now):
                self._rebuild_at = now + self._probe_after
                self._answers.rebuild(out, now)
            else:
                self._answers.probe(out, now)
        return tuple(out)

    def give_up(self) -> tuple[Instruction, ...]:
        """Nothing more will come: what waits is applied over its holes."""
        out: list[Instruction] = []
        self._answers.withdraw()
        self._life.abandon_holes(out)
        return tuple(out)

    def _put_off_probe(self, now: float) -> None:
        self._probe_at = now + self._probe_after


def feed(sequence: Sequence, channel: str, frames: Frames, now: float) -> tuple[Instruction, ...]:
    """
    Hand a multipart message of either channel to its method.
    """
    message = read_live(frames) if channel == PUB else read_replay(frames)
    match message:
        case Unreadable(reason):
            return sequence.unreadable(reason)
        case EndMarker():
            return sequence.replay_ended(now)
        case Batch(number, payload):
            return (sequence.live if channel == PUB else sequence.replayed)(number, payload, now)
